"""Under ``asyncio.eager_task_factory`` a task takes its first step where it is made."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings
from msgspec import Raw

from phx_protocol import (
    Channel,
    History,
    Presence,
    Socket,
    abroadcast,
    aclose_topic,
    event,
)
from phx_protocol import introspection as look
from phx_protocol.node.node import Node, get_node
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from tests.support.nodes import LAYERS

factory = getattr(asyncio, "eager_task_factory", None)
pytestmark = pytest.mark.skipif(factory is None, reason="Python 3.12 has it first")


class People(Presence):
    async def fetch(self, topic: str, presences: Any) -> Any:
        return presences


class RoomChannel(Channel):
    presence = People
    history = History(events={"kept"})

    async def join(self, payload: Any) -> Any:
        return "ok"

    async def after_join(self) -> None:
        await self.push("welcome", {})

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("shout")
    async def shout(self, payload: Any) -> Any:
        await asyncio.sleep(0)
        await self.broadcast("shout", payload)


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}

    def id(self) -> str | None:
        return "users:1"


@pytest.fixture(params=["memory", *LAYERS])
async def other(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    """Another process, or None in memory, where there is none."""
    assert factory is not None and sys.version_info >= (3, 12)
    asyncio.get_running_loop().set_task_factory(factory)
    if request.param == "memory":
        yield None
        return
    config = {"hosts": [redis_url], "prefix": f"eager-{request.param}"}
    backend = {"BACKEND": LAYERS[request.param], "CONFIG": config}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        node = Node()
        assert await node.address()
        yield node
        await node.close()
        await get_node().close()


@pytest.mark.parametrize("wire", [True, False])
async def test_a_channel_is_joined_answers_and_is_left(other: Any, wire: bool) -> None:
    socket = await connect(RoomSocket, wire=wire)
    for _ in range(3):
        room = await socket.join("room:1")
        await room.assert_push("welcome")
        for n in range(3):
            await room.assert_reply(await room.push("echo", {"n": n}), "ok", {"n": n})
        await room.push("shout", {"n": 1})
        await room.assert_push("shout", {"n": 1})
        await room.leave()
    await socket.close()


async def test_broadcasts_histories_and_presences_go_their_way(other: Any) -> None:
    one, two = await connect(RoomSocket), await connect(RoomSocket)
    first = await one.join("room:1")
    await first.assert_push("presence_state")
    second = await two.join("room:1")
    await first.assert_push("presence_diff")
    for n in range(3):
        await abroadcast("room:1", "kept", {"n": n})
        await abroadcast("room:1", "news", {"n": n})
        if other is not None:
            broadcast = Broadcast("room:1", "far", Raw(b'{"n":%d}' % n))
            await other.pubsub.publish(broadcast, None, None)
        for room in (first, second):
            await room.assert_push("kept", {"n": n})
            await room.assert_push("news", {"n": n})
            if other is not None:
                await room.assert_push("far", {"n": n})
    assert len(await People.list("room:1")) == 2
    await aclose_topic("room:1")
    await abroadcast("users:1", "disconnect", {})
    await one.assert_closed(1001)
    await two.assert_closed(1001)


async def test_a_node_is_asked_and_drained(other: Any) -> None:
    node = get_node()
    socket = await connect(RoomSocket)
    await node.heartbeat.ready()
    if other is not None:
        asked = {"topic": None, "user": None, "limit": 5}
        answer = await other.rpc.call(
            await node.address(), "list_sockets", asked, ack_timeout=5, timeout=5
        )
        assert len(answer["sockets"]) == 1
    assert len(await look.alist_sockets()) == 1
    draining = asyncio.create_task(node.drainer.run())
    await socket.assert_closed(1012)
    assert await draining == 1
    node.drainer.resume()
