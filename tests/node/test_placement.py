"""The servers of the state change while processes run: no topic is on two of them at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from msgspec import Raw

from phx_protocol import History, Presence
from phx_protocol.exceptions import StateError, StateMoved
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.history.streams import Streams
from phx_protocol.introspection import aserver_of
from phx_protocol.management.doctor import layer
from phx_protocol.management.doctor.findings import Status
from phx_protocol.node import node as nodes_of_loops
from phx_protocol.node.census import Census
from phx_protocol.node.neighbours import known_counts
from phx_protocol.node.node import Node
from phx_protocol.presence.tracker import Tracker, Trackers
from phx_protocol.signals import user_offline, user_online
from phx_protocol.state.base import Position
from phx_protocol.users import aonline
from phx_protocol.wire.messages import Broadcast
from tests.management.doctor.site import site as doctored
from tests.support import leases, servers
from tests.users.people import Connection, Subscriber

TOPICS = [f"room:{n}" for n in range(24)]
KEPT = History(size=1000)


class DeskPresence(Presence):
    pass


class Site:
    """Three servers, and nodes as processes with different settings have them."""

    def __init__(self, folder: Path, layer: str) -> None:
        self._folder = folder
        self._layer = layer
        self.ports = [servers.free_port() for _ in range(3)]
        self._running: dict[int, contextlib.ExitStack] = {}
        self.nodes: list[Node] = []
        for place in range(3):
            self.start(place)

    def start(self, place: int) -> None:
        stack = self._running[place] = contextlib.ExitStack()
        folder = self._folder / f"redis{place}"
        folder.mkdir(exist_ok=True)
        stack.enter_context(servers.redis(folder, self.ports[place]))

    def stop(self, place: int) -> None:
        self._running.pop(place).close()

    def url(self, place: int) -> str:
        """That of a server; of a negative one another name of it."""
        host = "localhost" if place < 0 else "127.0.0.1"
        return f"redis://{host}:{self.ports[abs(place)]}/0"

    @contextlib.contextmanager
    def settings(self, **lists: list[int]) -> Iterator[None]:
        state: dict[str, Any] = {
            name.upper(): [self.url(place) for place in places]
            for name, places in lists.items()
        }
        backend = {
            "BACKEND": "phx_protocol.layers.RedisLayer",
            "CONFIG": {"hosts": [self._layer]},
        }
        with override_settings(
            CHANNEL_LAYERS={"default": backend},
            PHX_PROTOCOL={
                "STATE": {**state, "TIMEOUT": 2.0},
                "TRACK_USERS": True,
                "OFFLINE_AFTER": 0.2,
            },
        ):
            yield

    def make(self, **lists: list[int]) -> Node:
        """A process with these lists of servers, which does nothing yet."""
        with self.settings(**lists):
            return Node()

    async def process(self, **lists: list[int]) -> Node:
        """A process with these lists, which lives."""
        node = self.make(**lists)
        self.nodes.append(node)
        node.keep_alive("the test")
        node.start_heartbeats()
        for heartbeat in node.heartbeats:
            await heartbeat.ready()
        return node

    async def end(self, *nodes: Node) -> None:
        for node in nodes:
            self.nodes.remove(node)
            node.let_go("the test")
            await node.close()

    def places(self, node: Node, topic: str) -> int:
        server = node.heartbeat_of(topic).state.server
        return next(n for n in range(3) if str(self.ports[n]) in server)


@pytest.fixture
async def site(tmp_path: Path, redis_url: str) -> AsyncIterator[Site]:
    site = Site(tmp_path, redis_url)
    with leases.frequent_beats(), site.settings(hosts=[0]):
        yield site
        await site.end(*site.nodes)
    for place in [*site._running]:
        site.stop(place)


def steps(old: list[int], new: list[int]) -> list[dict[str, list[int]]]:
    """The lists of a process, deploy by deploy."""
    return [
        {"hosts": old},
        {"hosts": old, "next_hosts": new},
        {"hosts": new, "previous_hosts": old},
        {"hosts": new},
    ]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


def use(*nodes: Node) -> set[int]:
    """In how many lists of servers these nodes believe, by the number of servers."""
    return {len(node.placement.rings.servers) for node in nodes}


def desks(node: Node) -> Tracker:
    return node.part(Trackers).of(DeskPresence)


class Hearing:
    """A client of a topic with a history: what it hears, and whether it was told that something is missing."""

    fastlane = None

    def __init__(self, node: Node, topic: str) -> None:
        self.heard: list[str] = []
        self.offset: str | None = None
        self.interrupts = 0
        self._node = node
        self._topic = topic
        node.pubsub.subscribe(topic, self)

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self.heard.append(broadcast.event)
        self.offset = broadcast.offset

    def interrupt(self) -> None:
        self.interrupts += 1

    async def rejoin(self, offset: str | None = None) -> Any:
        request = RecoveryRequest(Position.parse(offset), frozenset(), True)
        streams = self._node.part(Streams, self._topic)
        return await streams.catch_up(self._topic, KEPT, request)


async def say(node: Node, topic: str, what: str) -> None:
    await node.pubsub.broadcast(Broadcast(topic, what, Raw(b"{}")), KEPT)


# -------------------------------------------------------------------- when it happens


async def test_the_first_process_of_the_second_deploy_changes_the_servers_for_all(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "phx_protocol.state")
    _, knows, changes, after = steps([0], [0, 1, 2])
    one, two = await site.process(**knows), await site.process(**knows)
    assert use(one, two) == {1}
    three = await site.process(**changes)
    await until(lambda: use(one, two, three) == {3})
    for topic in TOPICS:
        assert len({site.places(node, topic) for node in site.nodes}) == 1
    assert {site.places(one, topic) for topic in TOPICS} == {0, 1, 2}
    assert caplog.text.count("the state is on 127.0.0.1") == 3
    # of the third deploy nobody notices anything
    caplog.clear()
    await site.end(one)
    four = await site.process(**after)
    await site.end(two, three)
    await four.heartbeat.beat()
    assert use(four) == {3} and four.placement.rings.number == 1
    assert "the state is on" not in caplog.text


async def test_servers_stay_as_they_are_while_a_process_does_not_know_the_new_ones(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    before, knows, changes, _ = steps([0], [1, 2])
    old, one = await site.process(**before), await site.process(**knows)
    three = await site.process(**changes)
    for _ in range(3):
        for heartbeat in three.heartbeats:
            await heartbeat.beat()
    assert use(old, one, three) == {1}
    assert caplog.text.count("does not know the new ones") == 1
    assert "another list of servers" not in caplog.text
    await desks(old).track(None, "room:1", "ada", {})
    assert "ada" in (await desks(three).roster("room:1")).presences()
    await site.end(old)
    await until(lambda: use(one, three) == {2})


async def test_a_process_of_the_first_deploy_that_starts_again_changes_nothing_back(
    site: Site,
) -> None:
    _, knows, changes, _ = steps([0], [1, 2])
    one = await site.process(**changes)
    await until(lambda: use(one) == {2})
    again = await site.process(**knows)
    for node in (again, one):
        for heartbeat in node.heartbeats:
            await heartbeat.beat()
    assert use(one, again) == {2}


async def test_a_site_that_was_stopped_begins_with_the_servers_of_its_settings(
    site: Site,
) -> None:
    """Also if the servers remember others, of an earlier change."""
    one = await site.process(**steps([0], [0, 1, 2])[2])
    await until(lambda: use(one) == {3})
    await site.end(one)
    some = [await site.process(hosts=[0, 1]) for _ in range(2)]
    await until(lambda: use(*some) == {2})
    await desks(some[0]).track(None, "room:1", "ada", {})
    assert "ada" in (await desks(some[1]).roster("room:1")).presences()


async def test_a_process_without_the_previous_servers_changes_nothing_of_others(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    one = await site.process(hosts=[0, 1])
    await until(lambda: use(one) == {2})
    two = await site.process(**steps([0, 1], [0, 1, 2])[2])
    await until(lambda: use(one, two) == {2})
    assert "does not know the new ones" in caplog.text
    await site.end(one)
    await until(lambda: use(two) == {3})
    caplog.clear()
    three = await site.process(hosts=[0])
    await three.heartbeat.beat()
    assert "name those in use as PREVIOUS_HOSTS" in caplog.text
    assert use(two, three) == {3}


@pytest.mark.parametrize("other", ["next_hosts", "previous_hosts"])
async def test_a_server_with_another_name_is_not_taken_for_another_server(
    site: Site, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = await site.process(hosts=[1], **{other: [-1]})
    for _ in range(3):
        for heartbeat in one.heartbeats:
            await heartbeat.beat()
    assert one.placement.rings.number == 0
    assert caplog.text.count("are the same one") == 1


async def test_two_processes_that_want_different_servers_at_once_agree_on_one_list(
    site: Site,
) -> None:
    for _ in range(2):
        await site.process(hosts=[0], next_hosts=[0, 1, 2])
    rivals = [site.make(hosts=[0, n], previous_hosts=[0]) for n in (1, 2)]
    site.nodes += rivals
    await asyncio.gather(*(rival.placement.ask() for rival in rivals))
    for node in site.nodes:
        await node.heartbeat.state.nodes()
    await until(
        lambda: len({node.placement.rings.servers for node in site.nodes}) == 1
        and use(*site.nodes) == {2}
    )


async def test_the_log_and_the_doctor_tell_of_processes_with_different_lists(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.process(hosts=[0, 1])
    await site.process(hosts=[1, 2])
    assert caplog.text.count("another list of servers") >= 1
    with site.settings(hosts=[0, 1]):
        verdict = await layer.state(doctored("http://127.0.0.1:1/socket"))
    assert verdict.status is Status.WARNING
    assert "processes use different servers" in verdict.message
    for place in range(3):
        assert str(site.ports[place]) in verdict.message


# ------------------------------------------------------- what a process may not do


async def test_a_process_with_the_old_list_only_writes_nothing_of_what_has_moved(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that was paused during the change, or was forgotten."""
    before, _, changes, _ = steps([0], [0, 1])
    new = await site.process(**changes)
    await until(lambda: use(new) == {2})
    old = await site.process(**before)
    stays, moves = (
        next(topic for topic in TOPICS if site.places(new, topic) == place)
        for place in (0, 1)
    )
    assert "1 of which this process does not know" in caplog.text
    for topic in (stays, moves):
        await desks(old).track(None, topic, "ada", {})
        await say(old, topic, "said")
    await old.heartbeat.beat()
    assert "ada" in (await desks(new).roster(stays)).presences()
    assert (await new.heartbeat_of(stays).state.kept(stays, 300))[1] == 1
    for heartbeat in new.heartbeats:
        for group in (f"{DeskPresence.name}\n{moves}",):
            with contextlib.suppress(StateMoved):
                assert (await heartbeat.state.entries(group))[1] == {}
        with contextlib.suppress(StateMoved):
            assert (await heartbeat.state.kept(moves, 300))[1] == 0
    assert not old.heartbeat.is_down  # what it has left works
    assert "ada" in (await desks(old).roster(moves)).presences()


async def test_a_call_by_the_old_list_is_refused_from_the_change_on(
    site: Site,
) -> None:
    _, knows, changes, _ = steps([0], [1])
    one = await site.process(**knows)
    state = one.heartbeat_of("room:1").state
    heartbeat_of, one.placement._learn = one.placement.heartbeat_of, lambda rings: None  # type: ignore[method-assign]
    state.follow(one.placement.rings, one.placement._learn)  # it is deaf from now on
    await state.change("desk\nroom:1", "one", {"a": b"1"}, ())
    new = await site.process(**changes)
    await until(lambda: site.places(new, "room:1") == 1)
    assert heartbeat_of("room:1").state is state
    for call in (
        state.change("desk\nroom:1", "one", {"b": b"2"}, ()),
        state.take("desk\nroom:1", "one", ["a"]),
        state.entries("desk\nroom:1"),
        state.since("room:1", 0, 60),
        state.open("room:1", 60),
        state.reset("room:1"),
    ):
        with pytest.raises(StateMoved):
            await call
    assert await state.append([]) == []


# ------------------------------------------------------------------- what lies there


@pytest.mark.parametrize("new", [[0, 1, 2], [1, 2], [2]])
async def test_presences_stay_and_nobody_sees_a_difference(
    site: Site, new: list[int]
) -> None:
    _, knows, changes, _ = steps([0, 1], new)
    nodes = [await site.process(**knows) for _ in range(2)]
    diffs: list[Any] = []
    for topic in TOPICS:
        for n, node in enumerate(nodes):
            Hearing(node, topic)
            await desks(node).track(None, topic, f"user{n}", {})
        for node in nodes:
            await desks(node).roster(topic)
    await asyncio.sleep(0.3)  # their own diffs
    with pytest.MonkeyPatch.context() as patch:
        for node in nodes:
            for topic in TOPICS:
                sender = desks(node).topic(topic)._diff_sender
                patch.setattr(sender, "put", diffs.append)
        third = await site.process(**changes)
        await until(lambda: use(*site.nodes) == {len(new)})
        for node in (*site.nodes, *site.nodes):
            for heartbeat in node.heartbeats:
                await heartbeat.beat()

        async def all_are_there() -> bool:
            rosters = [await desks(third).roster(topic) for topic in TOPICS]
            keys = [roster.presences().keys() for roster in rosters]
            return keys == [{"user0", "user1"}] * len(TOPICS)

        await until(all_are_there)
        # whoever reads a new epoch waits a beat for the others
        await asyncio.sleep(third.heartbeat.state.beat_every + 0.5)
        for node in nodes:
            for topic in TOPICS:
                topics = desks(node).topic(topic)
                assert topics.replica is not None
                assert len(topics.replica.entries) == 2
        assert [diff for diff in diffs if diff] == []


async def test_what_came_back_to_a_server_is_not_what_it_had_there_before(
    site: Site,
) -> None:
    one = await site.process(**steps([0], [0, 1, 2])[1])
    for topic in TOPICS:
        await desks(one).track(None, topic, "early", {})
        await one.part(Census, topic).enter(topic, "early")
        await say(one, topic, "early")
    clients = {topic: Hearing(one, topic) for topic in TOPICS}
    offsets = {
        topic: str((await one.heartbeat_of(topic).state.kept(topic, 300))[0])
        for topic in TOPICS
    }
    two = await site.process(**steps([0], [0, 1, 2])[2])
    await until(lambda: use(one, two) == {3})
    moved = {topic for topic in TOPICS if site.places(one, topic)}
    assert moved and moved != {*TOPICS}
    for topic in TOPICS:
        await say(two, topic, "meanwhile")
        await desks(one).untrack(None, topic, "early")
        one.part(Census, topic).closed("early")
    for heartbeat in one.heartbeats:
        await heartbeat.beat()
    three = await site.process(**steps([0, 1, 2], [0])[2])
    await until(lambda: use(*site.nodes) == {1})
    for topic in TOPICS:
        assert (await desks(three).roster(topic)).presences() == {}
        members = await three.part(Census, topic).enter(topic, "late")
        assert [member.id for member in members] == ["late"]
        found = await clients[topic].rejoin(offsets[topic])
        assert found.recovered == (topic not in moved)
        if found.recovered:
            assert [kept.event for kept in found.missed] == ["meanwhile"]


async def test_while_three_processes_speak_clients_hear_all_once_and_in_order(
    site: Site,
) -> None:
    _, knows, changes, _ = steps([0], [0, 1, 2])
    nodes = [await site.process(**knows) for _ in range(2)]
    third = site.make(**changes)
    site.nodes.append(third)
    hearing: dict[str, list[Hearing]] = {}
    for topic in TOPICS:
        hearing[topic] = [Hearing(node, topic) for node in site.nodes]
        for one in hearing[topic]:
            await one.rejoin()
    said = dict.fromkeys(range(3), 0)
    is_over = False

    async def speak(n: int, node: Node) -> None:
        while not is_over:
            said[n] += 1
            some = [f"{n}:{said[n]}"] * len(TOPICS)
            await asyncio.gather(*map(say, [node] * len(TOPICS), TOPICS, some))

    tasks = [asyncio.create_task(speak(n, node)) for n, node in enumerate(nodes)]
    await until(lambda: min(said[0], said[1]) > 20)
    third.start_heartbeats()
    tasks.append(asyncio.create_task(speak(2, third)))
    await until(lambda: use(*site.nodes) == {3})
    at = min(said.values())
    await until(lambda: min(said.values()) > at + 20)
    is_over = True
    await asyncio.gather(*tasks)
    total = sum(said.values())
    for topic, clients in hearing.items():
        for client in clients:
            await until(lambda: len(client.heard) >= total)
            assert client.interrupts == 0
            assert client.heard == clients[0].heard  # all in one order
            for n in range(3):
                mine = [e for e in client.heard if e.startswith(f"{n}:")]
                assert mine == [f"{n}:{i + 1}" for i in range(said[n])]


async def test_a_client_that_was_away_during_the_change_is_told(site: Site) -> None:
    _, knows, changes, _ = steps([0], [0, 1, 2])
    one = await site.process(**knows)
    clients = {topic: Hearing(one, topic) for topic in TOPICS}
    for topic, client in clients.items():
        await client.rejoin()
        await say(one, topic, "first")
    offsets = {topic: client.offset for topic, client in clients.items()}
    two = await site.process(**changes)
    await until(lambda: use(one, two) == {3})
    for topic in TOPICS:
        await say(two, topic, "second")
        found = await clients[topic].rejoin(offsets[topic])
        assert found.recovered == (site.places(one, topic) == 0)
        await until(lambda: len(clients[topic].heard) == 2)
        # one that got everything in the meantime goes on from there
        assert (await clients[topic].rejoin(clients[topic].offset)).recovered


async def test_counts_are_those_of_each_topic_once(site: Site) -> None:
    _, knows, changes, _ = steps([0], [0, 1, 2])
    one = await site.process(**knows)
    for topic in TOPICS:
        one.pubsub.subscribe(topic, Subscriber())
    await one.heartbeat.beat()
    two = await site.process(**changes)
    await until(lambda: use(one, two) == {3})
    for heartbeat in one.heartbeats:
        await heartbeat.beat()
    assert (await known_counts(two)).keys() == {*TOPICS}
    for heartbeat in two.heartbeats:
        for topic in await heartbeat.state.counts():
            assert two.heartbeat_of(topic) is heartbeat


async def test_nobody_is_told_that_a_user_came_or_left(site: Site) -> None:
    told: list[tuple[str, str]] = []

    async def came(sender: Any, user: str, **rest: Any) -> None:
        told.append(("came", user))

    async def left(sender: Any, user: str, **rest: Any) -> None:
        told.append(("left", user))

    user_online.connect(came)
    user_offline.connect(left)
    try:
        _, knows, changes, _ = steps([0], [0, 1, 2])
        one = await site.process(**knows)
        connections = [Connection(one, n) for n in range(20)]
        await until(lambda: len(told) == 20)
        two = await site.process(**changes)
        await until(lambda: use(one, two) == {3})
        for _ in range(3):
            for node in (one, two):
                for heartbeat in node.heartbeats:
                    await heartbeat.beat()
            await asyncio.sleep(0.5)
        assert await aonline_by(two, 30) == set(range(20))
        assert len(told) == 20 and not any(what == "left" for what, _ in told)
        for connection in connections:
            connection.close()
        await until(lambda: len(told) == 40)
        assert await aonline_by(two, 30) == set()
    finally:
        user_online.disconnect(came)
        user_offline.disconnect(left)


async def aonline_by(node: Node, users: int) -> set[Any]:
    nodes_of_loops._nodes[asyncio.get_running_loop()] = node
    return await aonline(range(users))


# ------------------------------------------------------------- those that only look


async def test_a_shell_that_starts_between_two_deploys_finds_what_has_moved(
    site: Site,
) -> None:
    _, knows, changes, _ = steps([0], [1, 2])
    one = await site.process(**changes)
    await until(lambda: use(one) == {2})
    for topic in TOPICS:
        await desks(one).track(None, topic, "ada", {})
    Connection(one, 7)
    await until(lambda: aonline_by(one, 10))
    for lists in (knows, changes):
        shell = site.make(**lists)
        assert (await desks(shell).roster("room:3")).presences().keys() == {"ada"}
        shell = site.make(**lists)
        assert await aonline_by(shell, 10) == {7}
        shell = site.make(**lists)
        nodes_of_loops._nodes[asyncio.get_running_loop()] = shell
        server = one.heartbeat_of("room:3").state.server
        assert await aserver_of("room:3") == server
        heard = Hearing(one, "room:3")
        await heard.rejoin()
        shell = site.make(**lists)
        await say(shell, "room:3", "from a worker")
        await until(lambda: heard.heard)
        assert heard.offset is not None and heard.interrupts == 0


# --------------------------------------------------------------- servers that are away


async def test_a_server_that_is_away_delays_the_change(site: Site) -> None:
    _, knows, changes, _ = steps([0], [1, 2])
    one = await site.process(**knows)
    site.stop(2)
    await until(lambda: _beaten_down(one))
    two = await site.process(**changes)
    await two.heartbeat.beat()
    assert use(one, two) == {1}
    assert not one.heartbeat.is_down  # nobody uses it yet
    await desks(one).track(None, "room:1", "ada", {})
    site.start(2)
    await until(lambda: use(one, two) == {2}, 30)
    await until(lambda: _is_there(two, "room:1", "ada"), 30)


async def _beaten_down(node: Node) -> bool:
    for heartbeat in node.heartbeats:
        await heartbeat.beat()
    return any(heartbeat.is_down for heartbeat in node.heartbeats)


async def _is_there(node: Node, topic: str, key: str) -> bool:
    with contextlib.suppress(StateError):
        return key in (await desks(node).roster(topic)).presences()
    return False


async def test_servers_that_lost_all_learn_of_the_change_from_those_that_live(
    site: Site,
) -> None:
    _, _, changes, _ = steps([0], [0, 1, 2])
    one = await site.process(**changes)
    await until(lambda: use(one) == {3})
    for topic in TOPICS:
        await desks(one).track(None, topic, "ada", {})
    for place in range(3):
        site._running[place].close()
        site.start(place)

    async def is_well() -> bool:
        for heartbeat in one.heartbeats:
            await heartbeat.beat()
        return not any(heartbeat.is_down for heartbeat in one.heartbeats)

    await until(is_well, 30)
    two = await site.process(**steps([0], [0, 1, 2])[3])
    assert two.placement.rings.number == 1
    for topic in TOPICS:
        assert "ada" in (await desks(two).roster(topic)).presences()
