"""Introspection: nodes, topics and sockets as views, commands and the admin get them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from django.contrib.auth.models import User

from phx_protocol import Presence, abroadcast, aclose_topic, adisconnect_socket
from phx_protocol import introspection as look
from phx_protocol.node.node import get_node
from phx_protocol.pubsub.traffic import WINDOW
from tests.introspection.rooms import beaten, client

__all__ = ["client"]


async def test_the_node_of_this_process_is_listed(client: Any) -> None:
    await client()
    await beaten()
    nodes = {node.name: node for node in await look.alist_nodes()}
    node = nodes[get_node().heartbeat.name]
    assert (node.pid, node.sockets) == (os.getpid(), 1)


async def test_a_connection_is_named_after_its_node_whatever_that_is_called(
    client: Any,
) -> None:
    one, two, three = await client(), await client(), await client()
    await beaten()
    before = await look.alist_sockets()
    await get_node().heartbeat.state.leave(get_node().heartbeat.name)
    await beaten()
    after = await look.alist_sockets()
    assert {s.node for s in after} == {get_node().heartbeat.name}
    assert {s.node for s in after}.isdisjoint({s.node for s in before})
    for socket in (*before, *after):
        assert socket.id.startswith(f"{socket.node}.")
    assert len({socket.id for socket in after}) == 3
    # a caller may still use the name that it had before
    await adisconnect_socket(before[0].id)
    await adisconnect_socket(after[1].id)
    await adisconnect_socket("another." + after[2].id.partition(".")[2])
    await one.assert_closed(1001)
    await two.assert_closed(1001)
    await three.join("room:still")


async def test_topics_are_listed_with_their_subscribers(client: Any) -> None:
    one, two = await client(), await client()
    await one.join("room:b")
    await two.join("room:b")
    await two.join("room:a")
    await beaten()
    name = get_node().heartbeat.name
    topics = await look.alist_topics()
    # neither a socket's id nor a subscription to another topic is one that is joined
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
    await get_node().heartbeat.ready()
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

    name = get_node().heartbeat.name
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


async def test_topics_are_described_with_classes_presences_and_rates(
    client: Any,
) -> None:
    one, two = await client(), await client()
    room = await one.join("room:described")
    await two.join("room:described")
    for _ in range(10):
        await abroadcast("room:described", "new", {})
    await room.assert_reply(await room.push("unknown", {}), "error")
    await beaten()
    described = await look.adescribe_topics(["room:described", "room:not there"])
    assert list(described) == ["room:described"]
    details = described["room:described"]
    assert details.channels == ["tests.introspection.rooms.Room"]
    assert details.presences == 2
    # two joins and a push came in, ten broadcasts went out to two, and to two tests
    assert 20 / (4 * WINDOW) < details.messages_per_second < 53 / WINDOW
    busiest = await look.abusiest_topics()
    assert busiest["room:described"] >= details.messages_per_second * 0.5
    assert "room:not there" not in busiest


async def test_a_node_is_known_to_have_sockets_as_soon_as_it_has(client: Any) -> None:
    node = get_node()
    await node.heartbeat.beat()
    await client()
    async with asyncio.timeout(2):
        while not sum(n.sockets for n in await look.alist_nodes()):
            await asyncio.sleep(0.01)


async def test_one_socket_is_closed_by_its_own_id(client: Any) -> None:
    one, _ = await client(), await client()
    await beaten()
    first, second = await look.alist_sockets()
    await adisconnect_socket(first.id)
    await one.assert_closed(1001)
    assert [s.id for s in await look.alist_sockets()] == [second.id]


async def test_a_topic_is_closed_for_all_its_clients(client: Any) -> None:
    one, two = await client(), await client()
    a, b = await one.join("room:closed"), await two.join("room:closed")
    other = await one.join("room:open")
    await aclose_topic("room:closed")
    for channel in (a, b):
        await channel.assert_ended()
    await other.assert_reply(await other.push("unknown", {}), "error")
    await beaten()
    assert [t.topic for t in await look.alist_topics()] == ["room:open"]


def test_with_a_layer_in_memory_only_this_process_is_seen() -> None:
    assert look.sees_one_process()
