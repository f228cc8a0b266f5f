"""A stream: its broadcasts are delivered in their order, and none is missing unsaid."""

from __future__ import annotations

from typing import Any

from phx_protocol import abroadcast
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.node.node import get_node
from tests.history.rooms import (
    CLAIM,
    LARGE,
    Connect,
    client,
    come_back,
    counting,
    frames,
    withheld,
)
from tests.support.state import item

__all__ = ["client"]


async def test_when_the_history_is_lost_clients_join_again_and_get_recovered_false(
    client: Connect,
) -> None:
    socket = await client()
    room = await socket.join("room:lost", CLAIM)
    await abroadcast("room:lost", "msg", {"i": 1})
    offset = (await frames(socket, "room:lost", 1))[0][1]
    await get_node().heartbeat.state.reset("room:lost")
    await get_node().heartbeat.beat()
    error = await socket._take(lambda f: f[3] == "phx_error")
    assert error[4] == {"reason": "history lost"}
    _, history = await come_back(client, "room:lost", {"offset": offset})
    assert history["recovered"] is False
    assert room.reply["history"]["offset"] != history["offset"]


async def test_broadcasts_that_come_in_the_wrong_order_are_delivered_in_the_right_one(
    client: Connect,
) -> None:
    """As from two processes: the second overtakes the first on the layer."""
    node = get_node()
    socket = await client()
    await socket.join("room:order", CLAIM)
    with withheld() as sent:
        for i in range(3):
            await abroadcast("room:order", "msg", {"i": i})
    for held in reversed(sent):
        node.pubsub.sequencer.offer(held)
    got = await frames(socket, "room:order", 3)
    assert [f[4]["i"] for f in got] == [0, 1, 2]


async def test_a_missing_broadcast_is_read_from_the_history(client: Connect) -> None:
    node = get_node()
    socket = await client()
    await socket.join("room:hole", CLAIM)
    with withheld() as sent:
        for i in range(3):
            await abroadcast("room:hole", "msg", {"i": i})
    node.pubsub.sequencer.offer(sent[2])
    got = await frames(socket, "room:hole", 3)
    assert [f[4]["i"] for f in got] == [0, 1, 2]


async def test_a_broadcast_that_did_not_arrive_is_found_at_the_next_beat(
    client: Connect,
) -> None:
    node = get_node()
    socket = await client()
    await socket.join("room:tail", CLAIM)
    with withheld():
        await abroadcast("room:tail", "msg", {"i": 0})
    await node.heartbeat.beat()
    assert (await frames(socket, "room:tail", 1))[0][4] == {"i": 0}


async def test_missing_broadcasts_are_read_page_after_page() -> None:
    node, state = await counting()
    await node.pubsub.sequencer.catch_up("t", LARGE, RecoveryRequest(None, frozenset()))
    stream = node.pubsub.sequencer._streams["t"]
    got: list[Any] = []
    node.pubsub.deliver_local = lambda broadcast, **kwargs: got.append(broadcast)  # type: ignore
    many = [item(f"{i}", "t", size=1000, payload=2**14) for i in range(200)]
    await state.append(many)
    await stream.fill()
    assert [b.offset.rpartition("-")[2] for b in got] == [str(n) for n in range(1, 201)]
    assert 10 < state.reads < 30
