"""What arrives on an ordinary channel waits for a receiver, within bounds."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from channels_redis.serializers import registry

from phx_protocol.layers import inbox as module
from phx_protocol.layers.inbox import Inbox

SERIALIZER = registry.get_serializer("msgpack")


def packed(message: Any) -> bytes:
    data: bytes = SERIALIZER.serialize(message)
    return data


async def test_messages_wait_for_who_receives_them() -> None:
    inbox = Inbox(SERIALIZER, "a")
    waiting = [asyncio.ensure_future(inbox.get()) for _ in range(2)]
    for n in range(3):
        inbox.put(packed({"n": n}))
    assert await asyncio.gather(*waiting) == [{"n": 0}, {"n": 1}]
    assert await inbox.get() == {"n": 2}


async def test_what_nobody_receives_is_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LIMIT", 1000)
    inbox = Inbox(SERIALIZER, "a.channel")
    for n in range(20):
        inbox.put(packed({"n": n, "x": 90 * "x"}))
    assert "messages to a.channel are dropped" in caplog.text
    kept = inbox._queue.qsize()
    assert [(await inbox.get())["n"] for _ in range(kept)] == [*range(kept)]
    assert 5 < kept < 8
    inbox.put(packed({"n": "again"}))
    assert await inbox.get() == {"n": "again"}


async def test_many_small_messages_count_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An object for each, besides its bytes. The log says once that it is full."""
    monkeypatch.setattr(module, "LIMIT", 100_000)
    inbox = Inbox(SERIALIZER, "a.channel")
    data = packed({"n": 0})
    for _ in range(10_000):
        inbox.put(data)
    assert inbox._queue.qsize() * sys.getsizeof(data) <= 100_000
    assert len(caplog.records) == 1
    while inbox._queue.qsize():
        await inbox.get()
    for _ in range(10_000):
        inbox.put(data)
    assert len(caplog.records) == 2
