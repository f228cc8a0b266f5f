"""Nodes: one for each event loop of a process, for as long as that lives."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from phx_protocol import Presence, abroadcast
from phx_protocol.node import node
from phx_protocol.node.node import PubSub, get_pubsub
from phx_protocol.pubsub import group_name
from tests.node.layers import pubsub

__all__ = ["pubsub"]


class Somebody(Presence):
    pass


def test_a_loop_that_is_closed_leaves_no_node_behind() -> None:
    """asyncio.run() and async_to_sync() make a loop for each call."""
    for _ in range(5):
        asyncio.run(abroadcast("room:1", "event", {}))
    assert sum(loop.is_closed() for loop in list(node._nodes)) <= 1


async def test_what_a_process_tracks_is_found_from_any_of_its_threads() -> None:
    """Wherever it was tracked: on a loop that serves sockets, or on the one for sync code."""
    await asyncio.to_thread(Somebody.sync.track, "room:sync", "worker", {"n": 1})
    await Somebody.track("room:async", "worker", {"n": 1})
    for topic in ("room:sync", "room:async"):
        await asyncio.to_thread(Somebody.sync.update, topic, "worker", {"n": 2})
        found = await asyncio.to_thread(Somebody.sync.get, topic, "worker")
        assert found is not None and found["metas"][0]["n"] == 2
        await asyncio.to_thread(Somebody.sync.untrack, topic)
        assert await Somebody.list(topic) == {}


class Slow:
    """A layer that needs its time for each group, and is stuck where it is told to be."""

    def __init__(self) -> None:
        self.stuck = asyncio.Event()
        self.stuck.set()

    async def new_channel(self) -> str:
        return "specific.slow"

    async def receive(self, channel: str) -> Any:
        await asyncio.Future()

    async def group_add(self, group: str, channel: str) -> None:
        await self.stuck.wait()
        await asyncio.sleep(0.02)

    async def group_discard(self, group: str, channel: str) -> None: ...


async def test_a_long_line_of_new_topics_is_no_failure_as_long_as_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node, "READY_TIMEOUT", 0.3)
    pubsub = get_pubsub()
    pubsub.layer = pubsub.groups.layer = Slow()
    topics = [f"room:{n}" for n in range(40)]  # more than twice the time that one waits
    await asyncio.gather(*map(pubsub.ready, topics))
    assert all(topic in pubsub.groups for topic in topics)
    assert not pubsub.is_failing
    pubsub.layer.stuck.clear()
    await pubsub.ready("room:stuck")
    assert pubsub.is_failing
    pubsub.layer.stuck.set()


async def heard(pubsub: PubSub) -> None:
    """Wait until what the layer is sent arrives at `pubsub`."""
    told = asyncio.Event()
    pubsub.relay.listen("told", lambda body: told.set())
    while not told.is_set():
        address = await pubsub.address()
        assert address is not None
        await pubsub.relay.tell(address, "note", name="told", body={})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await told.wait()


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), RuntimeError("once"), TimeoutError()]
)
async def test_a_layer_that_gives_up_is_listened_to_again(
    pubsub: PubSub, error: BaseException
) -> None:
    await heard(pubsub)
    pubsub.layer.errors.append(error)
    async with asyncio.timeout(10):
        await heard(pubsub)
    assert not pubsub.layer.errors and not pubsub.is_failing


async def test_a_layer_that_forgot_the_channel_gets_another_with_all_groups(
    pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "FORGOTTEN", 1)
    await pubsub.ready("room:1")
    before = await pubsub.address()
    assert before is not None
    pubsub.layer.forgotten.add(before)
    await pubsub.layer.send(before, {"type": "what wakes it"})
    async with asyncio.timeout(10):
        while await pubsub.address() == before:
            await asyncio.sleep(0)
        await heard(pubsub)
    members = pubsub.layer.groups[group_name("room:1")]
    assert await pubsub.address() in members


async def test_a_layer_that_is_away_leaves_a_node_its_address(
    pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long-poll clients have it in their tokens."""
    monkeypatch.setattr(node, "FORGOTTEN", 1)
    await heard(pubsub)
    before = await pubsub.address()
    tries = 0
    working = pubsub.layer.receive

    async def away(channel: str) -> Any:
        nonlocal tries
        tries += 1
        raise ConnectionError

    monkeypatch.setattr(pubsub.layer, "receive", away)
    await pubsub.layer.send(before, {"type": "what wakes it"})
    async with asyncio.timeout(10):
        while tries < 3:
            await asyncio.sleep(0)
        monkeypatch.setattr(pubsub.layer, "receive", working)
        await heard(pubsub)
    assert await pubsub.address() == before
