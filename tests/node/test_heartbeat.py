"""The heartbeat outlives whatever is cancelled around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol import History
from phx_protocol.exceptions import StateError
from phx_protocol.node.node import Node
from phx_protocol.node.part import Part
from phx_protocol.wire.messages import Broadcast
from tests.node.layers import pubsub

__all__ = ["pubsub"]


async def cancelled(*args: Any) -> Any:
    raise asyncio.CancelledError


async def test_a_part_that_is_cancelled_itself_ends_no_heartbeat(pubsub: Node) -> None:
    class Cancelled(Part):
        beat = cancelled

    pubsub.part(Cancelled)
    pubsub.heartbeat.start()
    await asyncio.wait_for(pubsub.heartbeat.ready(), 5)
    task = pubsub.heartbeat._task
    assert task is not None and not task.done()
    beaten = asyncio.Event()

    class Beaten(Part):
        async def beat(self) -> None:
            beaten.set()

    pubsub.part(Beaten)
    pubsub.heartbeat.beat_soon()
    await asyncio.wait_for(beaten.wait(), 5)


async def test_a_state_that_is_cancelled_itself_keeps_nobody_waiting(
    pubsub: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = Broadcast("room:1", "event", Raw(b"{}"))
    with monkeypatch.context() as patched:
        patched.setattr(pubsub.pubsub.sequencer._state, "append", cancelled)
        with pytest.raises(StateError):
            await asyncio.wait_for(
                pubsub.pubsub.sequencer.broadcast(History(), broadcast), 5
            )
    done = pubsub.pubsub.sequencer.broadcast(History(), broadcast)
    await asyncio.wait_for(done, 5)
