"""The relays of a node: when they run, and what they tell each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from phx_protocol import outbox
from phx_protocol.node.node import Node
from phx_protocol.outbox.relays import Relays
from phx_protocol.signals import outbox_sent, outbox_set_aside, outbox_waiting
from tests.outbox.test_relay import awrite, gone, started

Hear = Callable[..., Any]


async def test_in_a_test_runner_no_relay_starts_by_itself(
    database: str, node: Node, settings: Any
) -> None:
    relays = node.part(Relays)
    relays.start_if_wanted()
    assert not relays._relays
    chosen = {**settings.PHX_PROTOCOL["OUTBOX"], "RELAY": True}
    settings.PHX_PROTOCOL = {**settings.PHX_PROTOCOL, "OUTBOX": chosen}
    relays.start_if_wanted()
    assert [*relays._relays] == [database]


async def test_a_process_that_must_not_relay_does_not(
    database: str, node: Node, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phx_protocol.outbox.relays._is_tested", lambda: False)
    chosen = {**settings.PHX_PROTOCOL["OUTBOX"], "RELAY": False}
    settings.PHX_PROTOCOL = {**settings.PHX_PROTOCOL, "OUTBOX": chosen}
    node.part(Relays).start_if_wanted()
    assert not node.part(Relays)._relays


async def test_relays_start_again_after_they_have_ended(
    database: str, node: Node, hearing: Hear
) -> None:
    """A process that is drained, and then resumed."""
    heard = await hearing("room:1")
    await started(node, database)
    await node.part(Relays).settled()
    await awrite(database, "room:1", [1])
    await started(node, database)
    await heard.count(1)


async def test_signals_tell_what_was_sent_and_what_waits(
    database: str, node: Node, hearing: Hear
) -> None:
    counts: list[int] = []
    measured = asyncio.Event()
    waiting: list[Any] = []

    def sent(count: int, **kwargs: Any) -> None:
        counts.append(count)

    def waits(**kwargs: Any) -> None:
        waiting.append(kwargs)
        measured.set()

    outbox_sent.connect(sent)
    outbox_waiting.connect(waits)
    try:
        await awrite(database, "room:1", range(5))
        await started(node, database)
        await gone(database)
        async with asyncio.timeout(10):
            await measured.wait()
    finally:
        outbox_sent.disconnect(sent)
        outbox_waiting.disconnect(waits)
    assert sum(counts) == 5
    assert waiting[0]["database"] == database and waiting[0]["count"] == 5
    assert 0 <= waiting[0]["age"] < 60


async def test_a_row_that_is_set_aside_is_told_of(
    database: str, node: Node, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def aside(**kwargs: Any) -> None:
        told.append(kwargs)

    await awrite(database, "room:1", [1])
    settings.PHX_PROTOCOL = {**settings.PHX_PROTOCOL, "MAX_BROADCAST_SIZE": 10}
    outbox_set_aside.connect(aside)
    try:
        await started(node, database)
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.01)
    finally:
        outbox_set_aside.disconnect(aside)
    assert told[0]["topic"] == "room:1" and told[0]["event"] == "said"
    assert "MAX_BROADCAST_SIZE" in told[0]["reason"]
    assert caplog.text.count("is set aside: ") == 1


async def test_send_waiting_is_for_code_without_a_relay(
    database: str, hearing: Hear
) -> None:
    heard = await hearing("room:1")
    await awrite(database, "room:1", range(3))
    assert await outbox.asend_waiting(database) == 3
    assert heard.numbers() == [0, 1, 2]
    assert await outbox.asend_waiting(database) == 0


def test_send_waiting_works_in_plain_tests(database: str) -> None:
    began = time.time()
    outbox.broadcast("kept:1", "said", {}, using=database)
    assert outbox.send_waiting(database) == 1
    assert time.time() >= began
