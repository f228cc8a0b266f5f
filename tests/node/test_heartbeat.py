"""The heartbeat outlives whatever is cancelled around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol import History
from phx_protocol.exceptions import StateError, StateTimeout
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


async def test_a_node_that_is_stopped_during_its_first_beat_does_not_start_again(
    pubsub: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def and_stop() -> int:
        pubsub._stop()
        return 0

    monkeypatch.setattr(pubsub.heartbeat.state, "reap", and_stop)
    pubsub.start_heartbeats()
    async with asyncio.timeout(5):
        while pubsub._ending is None or not pubsub._ending.done():
            await asyncio.sleep(0)
    assert pubsub.heartbeat._task is None and pubsub._timer is None


async def test_a_state_that_is_cancelled_itself_keeps_nobody_waiting(
    pubsub: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = Broadcast("room:1", "event", Raw(b"{}"))
    with monkeypatch.context() as patched:
        patched.setattr(pubsub.pubsub.sequencer._state, "append", cancelled)
        with pytest.raises(StateError):
            await asyncio.wait_for(
                pubsub.pubsub.sequencer.append(History(), broadcast), 5
            )
    done = pubsub.pubsub.sequencer.append(History(), broadcast)
    await asyncio.wait_for(done, 5)


async def test_a_call_of_the_state_is_not_made_while_it_fails(pubsub: Node) -> None:
    beat = pubsub.heartbeat
    beat.start()
    await asyncio.wait_for(beat.ready(), 5)
    with pytest.raises(StateError, match="gone"), beat.state_call():
        raise StateError("gone")
    assert beat.is_down and beat.outage.failures == 1
    with pytest.raises(StateError, match="the state is failing"):
        with beat.state_call():
            raise AssertionError("it was made")
    assert beat.outage.failures == 1


async def test_a_reading_that_takes_too_long_is_no_outage(pubsub: Node) -> None:
    """It may be large."""
    beat = pubsub.heartbeat
    beat.start()
    await asyncio.wait_for(beat.ready(), 5)
    with pytest.raises(StateTimeout), beat.state_call(reads=True):
        raise StateTimeout("2 seconds")
    assert not beat.is_down
    with pytest.raises(StateTimeout), beat.state_call():
        raise StateTimeout("2 seconds")
    assert beat.is_down
