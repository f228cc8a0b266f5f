"""The values that describe a node, a socket and a history."""

from __future__ import annotations

import time
from typing import Any

import phx_protocol
from phx_protocol import abroadcast
from phx_protocol import introspection as look
from phx_protocol.node.node import get_node
from tests.introspection.rooms import beaten, client

__all__ = ["client"]


async def test_a_socket_is_listed_with_last_seen_and_waiting_bytes(client: Any) -> None:
    socket = await client()
    room = await socket.join("room:seen")
    await beaten()
    (before,) = await look.alist_sockets()
    assert before.opened_at <= before.last_seen <= time.time()
    assert before.buffered_bytes == 0
    await room.assert_reply(await room.push("unknown", {}), "error")
    (after,) = await look.alist_sockets()
    assert after.last_seen > before.last_seen


async def test_a_node_tells_its_versions_and_its_load(client: Any) -> None:
    await client()
    await beaten()
    nodes = {node.name: node for node in await look.alist_nodes()}
    node = nodes[get_node().heartbeat.name]
    assert node.versions["phx_protocol"] == phx_protocol.__version__
    assert set(node.versions) == {"python", "django", "channels", "phx_protocol"}
    assert 0 <= node.load < 64


async def test_the_history_of_a_topic_is_described(client: Any) -> None:
    socket = await client()
    await socket.join("kept:one")
    for number in range(7):
        await abroadcast("kept:one", "new", {"n": number})
    await abroadcast("kept:one", "other", {})
    history = await look.ahistory("kept:one")
    assert history is not None
    assert (history.size, history.ttl, history.events) == (5, 60, ["new"])
    assert (history.kept, history.offset[-2:]) == (5, "-7")
    assert await look.ahistory("unmatched:topic") is None
