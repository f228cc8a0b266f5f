"""A client of a topic with a history sees no gaps and no repeats, or learns of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, History, Socket, abroadcast, event
from phx_protocol.history import stream
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from tests.history.rooms import withheld

TIMEOUT = 5.0


class Room(Channel):
    history = History(size=20, ttl=60, events={"msg"})

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast_from("msg", payload)
        return "ok"


class RoomSocket(Socket):
    channels = {"model:*": Room}


@pytest.fixture
async def sockets() -> AsyncIterator[list[Connected]]:
    """Connections that are closed at the end."""
    opened: list[Connected] = []
    yield opened
    for socket in opened:
        await socket.close()


async def enter(
    sockets: list[Connected], topic: str, offset: Any = None, *senders: str
) -> tuple[Connected, Joined]:
    sockets.append(await connect(RoomSocket))
    history = {"offset": offset, "senders": list(senders)}
    return sockets[-1], await sockets[-1].join(topic, {"history": history})


async def seen(socket: Connected, topic: str, last: int) -> list[int]:
    """The numbers of the broadcasts that come, up to `last`."""
    numbers: list[int] = []
    async with asyncio.timeout(TIMEOUT):
        while not numbers or numbers[-1] != last:
            frame = await socket._take(lambda f: f[2] == topic and f[3] == "msg")
            numbers.append(frame[4]["i"])
    return numbers


async def test_a_first_client_after_a_long_pause_gets_no_earlier_broadcast(
    sockets: list[Connected],
) -> None:
    """The node was idle, and heard nothing, while another one broadcast."""
    node, topic = get_node(), "model:idle"
    _, room = await enter(sockets, topic)
    await sockets.pop().close()
    node.pubsub.unsubscribe(topic, room)  # the helper listens as well
    await node.close()  # as it does by itself when nobody has been there for a while
    # what other processes broadcast does not arrive while nobody listens
    with withheld():
        for i in range(5):
            await abroadcast(topic, "msg", {"i": i})
    socket, room = await enter(sockets, topic)
    assert room.reply["history"]["recovered"] is False
    await abroadcast(topic, "msg", {"i": 5})
    assert await seen(socket, topic, 5) == [5]


async def test_a_stream_that_is_let_go_delivers_nothing_any_more(
    sockets: list[Connected],
) -> None:
    """Its last client leaves while it is about to read what did not come."""
    node, topic = get_node(), "model:orphan"
    _, room = await enter(sockets, topic)
    with withheld():
        for i in range(3):
            await abroadcast(topic, "msg", {"i": i})
    node.pubsub.sequencer.resync()
    await sockets.pop().close()
    node.pubsub.unsubscribe(topic, room)  # the helper listens as well
    await node.heartbeat.beat()  # lets go of streams without clients
    socket, room = await enter(sockets, topic)
    assert room.reply["history"]["offset"].endswith("-3")
    await asyncio.sleep(3 * stream.GAP_TIMEOUT)  # what would come has come
    await abroadcast(topic, "msg", {"i": 3})
    assert await seen(socket, topic, 3) == [3]


async def test_a_client_does_not_get_live_what_it_sent_before_it_came_back(
    sockets: list[Connected],
) -> None:
    """Its own whisper is still on the way to the node where it joins again."""
    node, topic = get_node(), "model:whisper"
    socket, room = await enter(sockets, topic)
    await enter(sockets, topic)  # somebody else is there
    first = room.reply["history"]
    with withheld() as late:
        await room.assert_reply(await room.push("whisper", {"i": 0}), "ok")
    await socket.close()
    sockets.remove(socket)
    socket, again = await enter(sockets, topic, first["offset"], first["sender"])
    assert again.reply["history"]["recovered"] is True
    for broadcast in late:  # as from the layer, or from the history
        node.pubsub.deliver(broadcast)
    await abroadcast(topic, "msg", {"i": 1})
    assert await seen(socket, topic, 1) == [1]


async def test_nor_while_the_connection_that_it_lost_is_still_there(
    sockets: list[Connected],
) -> None:
    """The server may learn much later that the old one is dead: two channels of one client."""
    node, topic = get_node(), "model:twice"
    old, room = await enter(sockets, topic)
    first = room.reply["history"]
    with withheld() as late:
        await room.assert_reply(await room.push("whisper", {"i": 0}), "ok")
    socket, _ = await enter(sockets, topic, first["offset"], first["sender"])
    for broadcast in late:
        node.pubsub.deliver(broadcast)
    await abroadcast(topic, "msg", {"i": 1})
    assert await seen(socket, topic, 1) == [1]
    assert await seen(old, topic, 1) == [1]
