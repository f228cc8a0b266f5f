"""The heartbeat outlives whatever is cancelled around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol import History
from phx_protocol.exceptions import StateError
from phx_protocol.node.node import PubSub
from phx_protocol.wire.messages import Broadcast
from tests.node.layers import pubsub

__all__ = ["pubsub"]


async def cancelled(*args: Any) -> Any:
    raise asyncio.CancelledError


async def test_a_duty_that_is_cancelled_itself_ends_no_heartbeat(
    pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub.heartbeat, "duties", [cancelled])
    pubsub.heartbeat.start()
    await asyncio.wait_for(pubsub.heartbeat.ready(), 5)
    task = pubsub.heartbeat._task
    assert task is not None and not task.done()
    beaten = asyncio.Event()

    async def beat() -> None:
        beaten.set()

    pubsub.heartbeat.duties.append(beat)
    pubsub.heartbeat.beat_soon()
    await asyncio.wait_for(beaten.wait(), 5)


async def test_a_state_that_is_cancelled_itself_keeps_nobody_waiting(
    pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Broadcast("room:1", "event", Raw(b"{}"))
    with monkeypatch.context() as patched:
        patched.setattr(pubsub.ordered._state, "append", cancelled)
        with pytest.raises(StateError):
            await asyncio.wait_for(pubsub.ordered.broadcast(History(), told), 5)
    done = pubsub.ordered.broadcast(History(), told)
    await asyncio.wait_for(done, 5)
