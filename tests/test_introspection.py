"""Introspection: what is going on, as views, commands and the admin are told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from phx_protocol import Channel, Presence, Socket
from phx_protocol import introspection as look
from phx_protocol.pubsub import get_pubsub
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect


class Somebody(Presence):
    pass


class Room(Channel):
    presence = Somebody

    async def join(self, payload: Any) -> Any:
        await self.subscribe("room:further")  # subscribed, and not joined
        return "ok"


class NamedSocket(Socket):
    channels = {"room:*": Room}

    def id(self) -> str | None:
        return self.params.get("name")


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    opened: list[Connected] = []

    async def open(name: str = "anybody", user: Any = None) -> Connected:
        opened.append(await connect(NamedSocket, {"name": name}, user=user))
        return opened[-1]

    yield open
    for connected in opened:
        await connected.close()


async def beaten() -> None:
    """The state knows what is so now."""
    await get_pubsub().heartbeat.ready()
    await get_pubsub().heartbeat.beat()


async def test_the_node_of_this_process_is_listed(client: Any) -> None:
    await client()
    await beaten()
    nodes = {node.name: node for node in await look.alist_nodes()}
    node = nodes[get_pubsub().heartbeat.name]
    assert (node.pid, node.sockets) == (os.getpid(), 1)


async def test_topics_are_listed_with_those_who_joined_them(client: Any) -> None:
    one, two = await client(), await client()
    await one.join("room:b")
    await two.join("room:b")
    await two.join("room:a")
    await beaten()
    name = get_pubsub().heartbeat.name
    topics = await look.alist_topics()
    # neither a socket's id nor a further topic is one that is joined
    assert [(t.topic, t.subscribers, t.nodes) for t in topics] == [
        ("room:a", 1, {name: 1}),
        ("room:b", 2, {name: 2}),
    ]
    await two.close()
    await beaten()
    assert [(t.topic, t.subscribers) for t in await look.alist_topics()] == [
        ("room:b", 1)
    ]


async def test_counts_reach_the_state_without_a_beat(client: Any) -> None:
    socket = await client()
    await get_pubsub().heartbeat.ready()
    await socket.join("room:soon")
    async with asyncio.timeout(5):
        while not await look.alist_topics():
            await asyncio.sleep(0.05)


async def test_sockets_are_listed_by_topic_and_by_user(client: Any) -> None:
    ada, bob = User(pk=1, username="ada"), User(pk=2, username="bob")
    one, two, _ = await client("a", ada), await client("b", bob), await client()
    await one.join("room:a")
    await two.join("room:a")
    await two.join("room:b")
    await beaten()
    everybody = await look.alist_sockets()
    assert [(s.name, s.user, s.username) for s in everybody] == [
        ("a", "1", "ada"),
        ("b", "2", "bob"),
        ("anybody", None, None),
    ]
    assert len({s.id for s in everybody}) == 3
    assert {s.transport for s in everybody} == {"websocket"}
    assert [s.name for s in await look.alist_sockets(topic="room:a")] == ["a", "b"]
    assert [s.topics for s in await look.alist_sockets(topic="room:b")] == [
        ["room:a", "room:b"]
    ]
    assert [s.name for s in await look.alist_sockets(user=bob)] == ["b"]
    assert [s.name for s in await look.alist_sockets(user=2, topic="room:b")] == ["b"]
    assert await look.alist_sockets(user=3) == []
    assert len(await look.alist_sockets(limit=2)) == 2


async def test_presences_are_listed_whatever_class_tracks_them(client: Any) -> None:
    socket = await client(user=User(pk=7, username="ada"))
    room = await socket.join("room:p")
    await room.assert_push("presence_diff")
    await Presence.track("room:p", "worker", {"pid": 1})
    presences = await look.alist_presences("room:p")
    assert set(presences) == {"7", "worker"}
    assert presences["worker"]["metas"][0]["pid"] == 1
    await Presence.untrack("room:p", "worker")


async def test_synchronous_code_asks_from_its_thread(client: Any) -> None:
    socket = await client()
    await socket.join("room:sync")
    await beaten()

    def ask() -> Any:
        topics = [topic.topic for topic in look.list_topics()]
        nodes = [node.name for node in look.list_nodes()]
        return topics, len(look.list_sockets(topic="room:sync")), name in nodes

    name = get_pubsub().heartbeat.name
    assert await asyncio.to_thread(ask) == (["room:sync"], 1, True)
    assert await asyncio.to_thread(look.list_presences, "room:nobody") == {}


async def test_on_an_event_loop_the_twin_is_named() -> None:
    for call, name in (
        (look.list_nodes, "alist_nodes"),
        (look.list_topics, "alist_topics"),
        (look.list_sockets, "alist_sockets"),
    ):
        with pytest.raises(RuntimeError, match=f"await {name}"):
            call()  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="await alist_presences"):
        look.list_presences("room:a")
