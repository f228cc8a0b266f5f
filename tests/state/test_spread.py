"""A state over two servers: each topic is on one of them, and one that is away takes its own topics only."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from msgspec import Raw

from phx_protocol import History, Presence
from phx_protocol.introspection import alist_nodes, aserver_of
from phx_protocol.node import node as nodes_of_loops
from phx_protocol.node.neighbours import known_counts, known_nodes
from phx_protocol.node.node import Node
from phx_protocol.presence.tracker import Trackers
from phx_protocol.state import get_states
from phx_protocol.state.base import Position
from phx_protocol.users import aonline
from phx_protocol.wire.messages import Broadcast
from tests.support import leases, servers
from tests.support.state import end_lease
from tests.users.people import Connection, Subscriber

TOPICS = [f"room:{n}" for n in range(20)]


class SeatPresence(Presence):
    pass


class Sites:
    """Two servers of the state, and two nodes as two processes have them."""

    def __init__(self, folder: Path, layer: str) -> None:
        self._folder = folder
        self.ports = [servers.free_port() for _ in range(2)]
        self._stacks = [contextlib.ExitStack() for _ in range(2)]
        self.redis: list[servers.Server] = []
        for place in range(2):
            self.start(place)
        hosts = [f"redis://127.0.0.1:{port}/0" for port in self.ports]
        backend = {
            "BACKEND": "phx_protocol.layers.RedisLayer",
            "CONFIG": {"hosts": [layer]},
        }
        self.settings = {
            "CHANNEL_LAYERS": {"default": backend},
            "PHX_PROTOCOL": {
                "STATE": {"HOSTS": hosts, "LEASE": leases.LEASE},
                "TRACK_USERS": True,
            },
        }

    def start(self, place: int) -> None:
        self._stacks[place].close()
        running = servers.redis(self._folder, self.ports[place])
        server = self._stacks[place].enter_context(running)
        self.redis[place:] = [server, *self.redis[place + 1 :]]

    def stop(self) -> None:
        for stack in self._stacks:
            stack.close()


@pytest.fixture
def sites(tmp_path: Path, redis_url: str) -> Iterator[Sites]:
    sites = Sites(tmp_path, redis_url)
    with leases.frequent_beats(), override_settings(**sites.settings):
        yield sites
    sites.stop()


@pytest.fixture
async def pair(sites: Sites) -> AsyncIterator[tuple[Node, Node]]:
    pair = Node(), Node()
    nodes_of_loops._nodes[asyncio.get_running_loop()] = pair[0]
    for node in pair:
        node.keep_alive("the test")
        node.start_heartbeats()
        for heartbeat in node.heartbeats:
            await heartbeat.ready()
    yield pair
    for node in pair:
        await node.close()


def place_of(node: Node, topic: str) -> int:
    return node.heartbeats.index(node.heartbeat_of(topic))


def on(node: Node, place: int) -> str:
    """A topic on that server."""
    return next(topic for topic in TOPICS if place_of(node, topic) == place)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.05)


def seats(node: Node, topic: str) -> Any:
    return node.part(Trackers).of(SeatPresence)


async def test_every_process_knows_which_server_has_a_topic(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    places = [place_of(one, topic) for topic in TOPICS]
    assert places == [place_of(two, topic) for topic in TOPICS]
    assert 4 <= sum(places) <= 16


def test_a_server_is_known_whatever_its_password_and_its_place_in_the_list() -> None:
    hosts = ["redis://:secret@10.0.0.1:6379/0", "redis://10.0.0.2:6379/0"]
    others = [{"address": hosts[1]}, "redis://ada:other@10.0.0.1:6379/0"]
    names = []
    for listed in (hosts, others):
        with override_settings(PHX_PROTOCOL={"STATE": {"HOSTS": listed}}):
            names.append([state.server for state in get_states()])
    assert names[0] == names[1][::-1] and len(set(names[0])) == 2
    assert "secret" not in str(names)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("redis://10.0.0.1", "10.0.0.1:6379/0"),
        (
            "rediss://ada:secret@redis.example.com:7000/3?ssl_cert_reqs=none",
            "redis.example.com:7000/3",
        ),
        ("redis://10.0.0.1?db=2", "10.0.0.1:6379/2"),
        ("redis+cluster://:secret@b:1,a:2", "the cluster of a:2,b:1"),
        ("unix:///run/redis.sock?db=1&password=secret", "/run/redis.sock/1"),
        (("10.0.0.1", 7000), "10.0.0.1:7000/0"),
        ({"host": "10.0.0.1", "db": 4, "password": "secret"}, "10.0.0.1:6379/4"),
        (
            {"sentinels": [("b", 2), ("a", 1)], "master_name": "mysite", "db": 1},
            "mysite of a:1,b:2/1",
        ),
    ],
)
def test_a_server_has_a_name_that_tells_no_secret(host: Any, name: str) -> None:
    with override_settings(PHX_PROTOCOL={"STATE": {"HOSTS": [host]}}):
        assert [state.server for state in get_states()] == [name]


async def test_the_server_of_a_topic_is_told(pair: tuple[Node, Node]) -> None:
    for topic in TOPICS:
        server = pair[1].heartbeat_of(topic).state.server
        assert await aserver_of(topic) == server


async def test_of_an_only_server_nothing_is_told() -> None:
    assert await aserver_of("room:1") is None


async def test_a_node_tells_how_far_away_each_server_is(
    pair: tuple[Node, Node],
) -> None:
    for node in pair:
        for heartbeat in node.heartbeats:
            await heartbeat.beat()
    servers = {heartbeat.state.server for heartbeat in pair[0].heartbeats}
    for node in await alist_nodes():
        assert node.round_trips.keys() == servers
        assert all(0 < seconds < 5 for seconds in node.round_trips.values())


def test_a_server_that_is_named_twice_is_one() -> None:
    hosts = ["redis://10.0.0.1:6379/0"] * 2
    with override_settings(PHX_PROTOCOL={"STATE": {"HOSTS": hosts}}):
        assert len(get_states()) == 1


async def test_presences_are_seen_by_the_other_process_on_whichever_server(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    for topic in TOPICS:
        await seats(one, topic).track(None, topic, "ada", {})
    for topic in TOPICS:
        assert "ada" in (await seats(two, topic).roster(topic)).presences()


async def test_counts_and_nodes_are_those_of_all_servers(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    for topic in TOPICS:
        one.pubsub.subscribe(topic, Subscriber())
        two.pubsub.subscribe(topic, Subscriber())
    for node in pair:
        for heartbeat in node.heartbeats:
            await heartbeat.beat()
    names = {node.heartbeat.name for node in pair}
    assert set(await known_nodes(one)) == names
    assert await known_counts(one) == {
        topic: dict.fromkeys(names, 1) for topic in TOPICS
    }


async def test_users_are_on_all_servers(pair: tuple[Node, Node]) -> None:
    one, _ = pair
    for user in range(20):
        Connection(one, user)
    assert {place_of(one, f"{user}") for user in range(20)} == {0, 1}
    for heartbeat in one.heartbeats:
        await heartbeat.beat()
    assert await aonline(range(30)) == set(range(20))


async def kept(node: Node, topic: str) -> Position | None:
    """Broadcast on a topic with a history; return its offset, None without one."""
    heard: list[Broadcast] = []

    class Listener:
        fastlane = None

        def deliver_broadcast(self, broadcast: Broadcast) -> None:
            heard.append(broadcast)

    listener = Listener()
    node.pubsub.subscribe(topic, listener)
    try:
        broadcast = Broadcast(topic, "said", Raw(b"{}"))
        await node.pubsub.broadcast(broadcast, History())
    finally:
        node.pubsub.unsubscribe(topic, listener)
    (got,) = heard
    return Position.parse(got.offset)


async def test_histories_are_kept_on_the_server_of_their_topic(
    pair: tuple[Node, Node],
) -> None:
    for topic in TOPICS:
        assert await kept(pair[0], topic) is not None
        state = pair[1].heartbeat_of(topic).state
        assert (await state.kept(topic, 300))[1] == 1


async def test_a_server_that_is_away_takes_its_topics_only(
    sites: Sites, pair: tuple[Node, Node]
) -> None:
    one, two = pair
    here, away = on(one, 0), on(one, 1)
    for topic in (here, away):
        await seats(one, topic).track(None, topic, "ada", {})
        assert await kept(one, topic) is not None
    sites.redis[1].stop(signal.SIGKILL)

    async def is_noticed() -> bool:
        return one.heartbeats[1].is_down and two.heartbeats[1].is_down

    await until(is_noticed)
    assert not one.heartbeats[0].is_down
    # the others notice nothing
    await seats(one, here).track(None, here, "bob", {})
    assert {"ada", "bob"} <= (await seats(two, here).roster(here)).presences().keys()
    assert await kept(one, here) is not None
    assert set(await known_nodes(one)) == {node.heartbeat.name for node in pair}
    # its topics go on without it
    assert await kept(one, away) is None
    await seats(one, away).track(None, away, "bob", {})
    sites.start(1)

    async def is_back() -> bool:
        found = (await seats(two, away).roster(away)).presences()
        return {"ada", "bob"} <= found.keys()

    await until(is_back)
    assert await kept(one, away) is not None


async def test_a_process_that_dies_is_removed_from_all_servers(
    pair: tuple[Node, Node],
) -> None:
    one, two = pair
    for topic in TOPICS:
        await seats(one, topic).track(None, topic, "ada", {})
    for heartbeat in one.heartbeats:  # it beats no more
        task, heartbeat._task = heartbeat._task, None
        assert task is not None
        task.cancel()
        await end_lease(heartbeat.state, heartbeat.name)

    async def is_gone() -> bool:
        rosters = [await seats(two, topic).roster(topic) for topic in TOPICS]
        return not any(roster.presences() for roster in rosters)

    await until(is_gone)
