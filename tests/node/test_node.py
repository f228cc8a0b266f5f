"""Nodes: one for each event loop of a process, for as long as that lives."""

from __future__ import annotations

import asyncio

from phx_protocol import Presence, abroadcast
from phx_protocol.node import node


class Somebody(Presence):
    pass


def test_a_loop_that_is_closed_leaves_no_node_behind() -> None:
    """asyncio.run() and async_to_sync() make a loop for each call."""
    for _ in range(5):
        asyncio.run(abroadcast("room:1", "event", {}))
    assert sum(loop.is_closed() for loop in list(node._nodes)) <= 1


async def test_presences_of_a_process_are_found_from_any_of_its_threads() -> None:
    """Wherever it was tracked: on a loop that serves sockets, or on the one for sync code."""
    await asyncio.to_thread(Somebody.sync.track, "room:sync", "worker", {"n": 1})
    await Somebody.track("room:async", "worker", {"n": 1})
    for topic in ("room:sync", "room:async"):
        await asyncio.to_thread(Somebody.sync.update, topic, "worker", {"n": 2})
        found = await asyncio.to_thread(Somebody.sync.get, topic, "worker")
        assert found is not None and found["metas"][0]["n"] == 2
        await asyncio.to_thread(Somebody.sync.untrack, topic)
        assert await Somebody.list(topic) == {}
