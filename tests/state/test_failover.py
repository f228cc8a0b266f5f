"""A Redis that fails over, that comes back with less than it had, that forbids or drops something."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from phx_protocol import History, Presence, Socket
from phx_protocol.exceptions import StateError, StateRefused
from phx_protocol.history.policy import ALL_EVENTS
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.node.node import Node
from phx_protocol.presence.tracker import Trackers
from phx_protocol.pubsub.registry import Fastlane
from phx_protocol.state.base import NOWHERE
from phx_protocol.state.redis import RedisState
from phx_protocol.state.store import tag_of
from tests.support import leases, servers
from tests.support.rooms import OpenRoom
from tests.support.state import CALLS, admin, connected, forget, ids, item, key


class Switch:
    """A TCP proxy: new connections lead to `port`, those that there are stay where they are."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Switch:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self._open += [writer, back]
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
    writer.close()


@contextlib.contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[servers.Server]:
    directory.mkdir(exist_ok=True)
    quick = "--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"
    debug = "--enable-debug-command", "yes"
    with servers.redis(directory, None, *debug, *quick, *options) as running:
        yield running


def client(server: servers.Server) -> Redis:
    return Redis(port=server.port)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def follow(replica: Redis, primary: servers.Server) -> None:
    replica.replicaof("127.0.0.1", primary.port)
    await until(lambda: replica.info("replication")["master_link_status"] == "up")
    with client(primary) as there:
        there.wait(1, 5000)


class Pair:
    """A primary and its replica behind a switch."""

    def __init__(self, primary: servers.Server, replica: servers.Server) -> None:
        self.primary, self.replica = client(primary), client(replica)
        self.ports = primary.port, replica.port
        self._primary = primary

    async def begin(self) -> None:
        await follow(self.replica, self._primary)

    def promote(self) -> None:
        """From here on the replica knows nothing of what the primary takes."""
        self.primary.wait(1, 5000)
        self.replica.replicaof("NO", "ONE")

    def demote(self) -> None:
        """The old primary follows the new one; its connections are kept."""
        self.primary.replicaof("127.0.0.1", self.ports[1])


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    with redis_server(tmp_path / "a") as a, redis_server(tmp_path / "b") as b:
        pair = Pair(a, b)
        await pair.begin()
        yield pair
        pair.primary.close()
        pair.replica.close()


@pytest.fixture
async def switch(pair: Pair) -> AsyncIterator[Switch]:
    async with Switch(pair.ports[0]) as switch:
        yield switch


# -------------------------------------------------------- a server that does not serve now


@pytest.mark.parametrize("name", ["beat", "append", "heads"])
async def test_a_primary_that_became_a_replica_is_left_for_the_new_one(
    pair: Pair, switch: Switch, name: str
) -> None:
    state = connected(switch.url, "p:")
    await CALLS["beat first"](state)
    await CALLS["append"](state)
    pair.promote()
    pair.demote()
    switch.port = pair.ports[1]
    for _ in range(12):
        await CALLS[name](state)
    await state.close()


async def test_one_that_stays_a_replica_is_an_outage_and_no_refusal(
    pair: Pair, switch: Switch
) -> None:
    state = connected(switch.url, "p:")
    await CALLS["beat first"](state)
    pair.promote()
    pair.demote()
    for name in ("beat", "change", "append"):
        with pytest.raises(StateError, match="not a primary") as caught:
            await CALLS[name](state)
        assert not isinstance(caught.value, StateRefused)
    switch.port = pair.ports[1]
    assert await state.beat("a1", {})
    await state.close()


SAYS: dict[str, list[tuple[Any, ...]]] = {
    "MASTERDOWN": [
        ("CONFIG SET", "replica-serve-stale-data", "no"),
        ("REPLICAOF", "127.0.0.1", 1),
    ],
    "NOREPLICAS": [("CONFIG SET", "min-replicas-to-write", 3)],
    "OOM": [
        ("CONFIG SET", "maxmemory-policy", "noeviction"),
        ("CONFIG SET", "maxmemory", 1),
    ],
    "MISCONF": [
        ("CONFIG SET", "save", "3600 1"),
        ("SET", "x", 1),
        ("BGSAVE",),
    ],
}


@pytest.mark.parametrize("said", SAYS)
async def test_a_server_that_cannot_serve_now_is_an_outage(
    tmp_path: Path, said: str
) -> None:
    with redis_server(tmp_path / "r") as server, client(server) as there:
        state = connected(f"redis://127.0.0.1:{server.port}/0", "p:")
        assert await state.beat("a1", {}, first=True)
        # a snapshot cannot be where this is
        (tmp_path / "r" / "dump.rdb" / "x").mkdir(parents=True)
        for command in SAYS[said]:
            there.execute_command(*command)
        if said == "MISCONF":
            await until(
                lambda: there.info("persistence")["rdb_last_bgsave_status"] == "err"
            )
        with pytest.raises(StateError) as caught:
            await state.beat("a1", {})
        assert not isinstance(caught.value, StateRefused)
        there.config_set("save", "")  # it may go without one
        await state.close()


async def test_a_refusal_that_concerns_only_one_step_is_not_an_outage(
    redis_url: str,
) -> None:
    state = connected(redis_url)
    await state.reset("x")
    admin(state).set(key(state, "head:topic"), "BUSY READONLY", px=9000)
    with pytest.raises(StateRefused):
        await state.append([item("1")])
    forget(state)
    await state.close()


@override_settings(CHANNEL_LAYERS={})
async def test_a_node_keeps_its_name_when_its_server_becomes_a_replica(
    pair: Pair, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = {"BACKEND": "redis", "HOSTS": [switch.url], "PREFIX": "p:"}
    with override_settings(PHX_PROTOCOL={"STATE": hosts}):
        node = Node()
    await node.heartbeat.beat()
    name = node.heartbeat.name
    pair.promote()
    pair.demote()
    for _ in range(3):
        await node.heartbeat.beat()
        assert node.heartbeat.outage.is_on
    assert node.heartbeat.name == name
    switch.port = pair.ports[1]
    await node.heartbeat.beat()
    assert not node.heartbeat.outage.is_on and node.heartbeat.name == name
    assert sum("the state fails" in r.getMessage() for r in caplog.records) == 1
    await node.heartbeat.state.close()


# ------------------------------------------------------------------ a store that lost steps

Lose = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def promoted(path: Path) -> AsyncIterator[tuple[str, Lose, Lose]]:
    """A replica takes over that knows nothing of the latest steps."""
    with redis_server(path / "a") as a, redis_server(path / "b") as b:
        pair = Pair(a, b)
        await pair.begin()
        async with Switch(a.port) as switch:

            async def save() -> None:
                pair.promote()

            async def lose() -> None:
                pair.demote()
                switch.port = b.port

            yield switch.url, save, lose
        pair.primary.close()
        pair.replica.close()


@contextlib.asynccontextmanager
async def restored(path: Path) -> AsyncIterator[tuple[str, Lose, Lose]]:
    """A snapshot is read back while all connections stay."""
    with redis_server(path / "a") as server, client(server) as there:

        async def save() -> None:
            there.save()

        async def lose() -> None:
            there.execute_command("DEBUG", "RELOAD", "NOSAVE")

        yield f"redis://127.0.0.1:{server.port}/0", save, lose


LOSSES = {"a replica that lagged": promoted, "a snapshot": restored}


@pytest.fixture(params=LOSSES)
async def losing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[str, Lose, Lose]]:
    async with LOSSES[request.param](tmp_path) as losing:
        yield losing


async def test_no_place_is_given_twice_after_steps_were_lost(losing: Any) -> None:
    url, save, lose = losing
    a, b, away = (connected(url, "p:") for _ in range(3))
    for name, state in (("a1", a), ("b2", b), ("c3", away)):
        assert await state.beat(name, {}, first=True)
    await a.append([item("1")])
    _, before = await a.change("lobby", "a1", {"r1": b"one"}, [])
    await save()
    (lost,) = await a.append([item("2")])
    _, gone = await b.change("lobby", "b2", {"r2": b"two"}, [])
    await lose()

    # who comes now, and whose steps were not lost, may go on for a moment
    new = connected(url, "p:")
    await new.beat("d4", {}, first=True)
    for i in range(9):
        await new.append([item(f"new{i}")])
        await new.change("lobby", "d4", {f"d{i}": b""}, [])
    # until one that lost something says anything
    assert not await a.beat("a1", {})
    for name, state in (("b2", b), ("c3", away), ("d4", new)):
        assert not await state.beat(name, {})
    for state in (a, b, away, new):
        assert (await state.heads({"topic": 60}))[0].epoch != lost.epoch
        assert (await state.positions(["lobby"]))[0].epoch != gone.epoch == before.epoch
    (again,) = await away.append([item("3")])
    assert again.epoch != lost.epoch and again.n == 1
    assert ids(await new.since("topic", 0, 60)) == ["3"]
    for state in (a, b, away, new):
        await state.close()


@pytest.mark.parametrize("name", ["open", "append", "change", "since", "entries"])
async def test_whatever_is_called_first_notices(tmp_path: Path, name: str) -> None:
    async with restored(tmp_path) as (url, save, lose):
        state = connected(url, "p:")
        await state.beat("a1", {}, first=True)
        await save()
        await CALLS["append"](state)
        await CALLS["change"](state)
        before = state._store.ledger.generation
        await lose()
        await CALLS[name](state)
        assert state._store.ledger.generation != before
        await state.close()


@pytest.mark.parametrize("name", ["append", "change", "since", "positions"])
async def test_a_node_that_only_beats_notices_at_its_next_call(
    tmp_path: Path, name: str
) -> None:
    """It has not written for long, or never, under the hash tag of what it calls then."""
    async with restored(tmp_path) as (url, save, lose):
        state, author = connected(url, "p:"), connected(url, "p:")
        await state.beat("a1", {}, first=True)
        await save()
        (lost,) = await author.append([item("1", "t")])
        await state.beat("a1", {})
        await author.close()
        await lose()
        before = state._store.ledger.generation
        await CALLS[name](state)
        assert state._store.ledger.generation != before
        assert (await state.append([item("2", "t")]))[0].epoch != lost.epoch
        await state.close()


async def test_a_store_that_lost_nothing_goes_on_as_it_is(losing: Any) -> None:
    url, save, lose = losing
    state = connected(url, "p:")
    await state.beat("a1", {}, first=True)
    (first,) = await state.append([item("1")])
    await save()
    await lose()
    assert await state.beat("a1", {})
    assert await state.append([item("2")]) == [first._replace(n=2)]
    await state.close()


async def test_a_generation_that_was_left_never_counts_again(tmp_path: Path) -> None:
    async with restored(tmp_path) as (url, save, lose):
        a, b = connected(url, "p:"), connected(url, "p:")
        await a.append([item("1")])
        await b.append([item("1", "other")])
        await save()
        await a.append([item("2")])
        await lose()
        (third,) = await a.append([item("3")])
        await b.heads({"topic": 60})
        second = a._store.ledger.generation
        assert b._store.ledger.generation == second
        # the same old snapshot once more: it lacks no step of the one who asks first
        await lose()
        assert await b.heads({"topic": 60}) == [NOWHERE]
        (fourth,) = await a.append([item("4")])
        assert fourth.n == 1 and fourth.epoch != third.epoch
        assert a._store.ledger.generation not in (second, "")
        assert await b.heads({"topic": 60}) == [fourth]
        assert b._store.ledger.generation == a._store.ledger.generation
        await a.close()
        await b.close()


async def test_answers_may_come_in_any_order(redis_url: str) -> None:
    state = connected(redis_url)
    for _ in range(3):
        await asyncio.gather(*(state.append([item(f"{i}")]) for i in range(50)))
    generation = state._store.ledger.generation
    assert (await state.append([item("last")]))[0].n == 151
    assert state._store.ledger.generation == generation
    forget(state)
    await state.close()


class Lobby(OpenRoom):
    history = History()
    presence = Presence


class LobbySocket(Socket):
    channels = {"room:*": Lobby}


@contextlib.asynccontextmanager
async def nodes(url: str, count: int = 2) -> AsyncIterator[list[Node]]:
    """Nodes as of so many processes, that beat when a test wants it."""
    prefix = f"{secrets.token_hex(8)}:"
    state = {
        "BACKEND": "redis",
        "HOSTS": [url],
        "PREFIX": prefix,
        "LEASE": leases.LEASE,
    }
    with (
        leases.frequent_beats(),
        override_settings(PHX_PROTOCOL={"STATE": state}, CHANNEL_LAYERS={}),
    ):
        found = [Node() for _ in range(count)]
        for node in found:
            await node.heartbeat.beat()
        yield found
        await asyncio.gather(*(node.close() for node in found))
        for node in found:
            await node.heartbeat.state.close()


class Listener:
    """A subscriber that counts as a joined channel."""

    fastlane = Fastlane(None, None, ALL_EVENTS)  # type: ignore[arg-type]

    def __init__(self) -> None:
        self.interrupted = 0

    def deliver_broadcast(self, broadcast: Any) -> None: ...

    def interrupt(self) -> None:
        self.interrupted += 1


async def test_a_lost_step_that_this_node_saw_is_noticed_even_without_its_author(
    tmp_path: Path,
) -> None:
    async with restored(tmp_path) as (url, save, lose), nodes(url, 1) as (node,):
        state = node.heartbeat.state
        assert isinstance(state, RedisState)
        author = connected(url, state._prefix)
        there = Listener()
        await author.append([item("1", "room:1")])
        await node.pubsub.sequencer.catch_up(
            "room:1", History(), RecoveryRequest(None, frozenset())
        )
        node.pubsub.registry.add("room:1", there)
        stream = node.pubsub.sequencer._streams["room:1"]
        await save()
        await author.append([item("2", "room:1")])
        await stream.fill()
        assert stream.position is not None and stream.position.n == 2
        await author.close()
        await lose()
        name, before = node.heartbeat.name, stream.position
        await node.heartbeat.beat()
        await node.heartbeat.beat()
        assert node.heartbeat.name != name
        assert stream.position.epoch != before.epoch
        assert there.interrupted == 1
        node.pubsub.registry.discard("room:1", there)


# ------------------------------------------------------------------- keys that are evicted

EVICTED = [
    ["entries:*"],
    ["position:*"],
    ["entries:*", "position:*"],
    ["recent:*"],
    ["refs:*"],
    ["groups:*"],
    ["owners*"],
    ["groups:*", "owners*", "refs:*"],
    ["abouts"],
    ["topics:*"],
    ["leases"],
    ["author:*"],
    ["generation"],
    ["leases", "position:*", "topics:*"],
]


@pytest.mark.parametrize("patterns", EVICTED, ids="+".join)
async def test_a_beat_puts_back_what_redis_evicted(
    redis_url: str, patterns: list[str]
) -> None:
    async with nodes(redis_url) as both:
        listeners = [Listener() for _ in both]
        for node, listener in zip(both, listeners):
            node.pubsub.registry.add("room:1", listener)
            await tracker(node).track(None, "room:1", f"of {node.name}", {})
            await tracker(node).roster("room:1")
            await node.heartbeat.beat()
        state = both[0].heartbeat.state
        assert isinstance(state, RedisState)
        for pattern in patterns:
            at = key(state, pattern)
            if pattern == "generation":
                at = f"{state._prefix}*generation"
            for name in admin(state).scan_iter(at):
                admin(state).delete(name)
        for _ in range(2):
            for node in both:
                await node.heartbeat.beat()
        if patterns == ["leases"]:  # nobody else could tell whose their entries are
            assert [node.heartbeat.name for node in both] == [n.name for n in both]
        names = {f"of {node.name}" for node in both}
        group = f"{Presence.name}\nroom:1"
        assert len((await state.entries(group))[1]) == 2
        assert len(await state.nodes()) == 2
        assert sum((await state.counts())["room:1"].values()) == 2
        tag = tag_of(group)
        owned = [
            admin(state).smembers(state._store.key(tag, f"groups:{n.heartbeat.name}"))
            for n in both
        ]
        assert owned == [{group.encode()}] * 2
        async with nodes_of(state, redis_url) as (newcomer,):
            there = Listener()
            newcomer.pubsub.registry.add("room:1", there)
            roster = await tracker(newcomer).roster("room:1")
            assert set(roster.presences()) == names
            newcomer.pubsub.unsubscribe("room:1", there)
        for node, listener in zip(both, listeners):
            async with asyncio.timeout(10):
                while set((await tracker(node).roster("room:1")).presences()) != names:
                    await asyncio.sleep(0.05)
            await tracker(node).untrack(None, "room:1", None)
            node.pubsub.unsubscribe("room:1", listener)


@contextlib.asynccontextmanager
async def nodes_of(state: RedisState, url: str) -> AsyncIterator[list[Node]]:
    settings = {"BACKEND": "redis", "HOSTS": [url], "PREFIX": state._prefix}
    with override_settings(PHX_PROTOCOL={"STATE": settings}, CHANNEL_LAYERS={}):
        node = Node()
    await node.heartbeat.beat()
    yield [node]
    await node.close()


def tracker(node: Node) -> Any:
    return node.part(Trackers).of(Presence)


@pytest.mark.parametrize("evicted", ["head:t", "history:t"])
async def test_a_history_of_which_a_part_was_evicted_tells_nobody_that_he_has_all(
    redis_url: str, evicted: str
) -> None:
    state = connected(redis_url)
    found = await state.append([item("1", "t"), item("2", "t")])
    admin(state).delete(key(state, evicted))
    (third,) = await state.append([item("3", "t")])
    head, kept = await state.since("t", 1, 60)
    if evicted == "head:t":
        assert head.epoch == third.epoch != found[0].epoch
    else:
        assert (head, kept) == (third, [])
        assert ids(await state.since("t", 2, 60)) == ["3"]
    forget(state)
    await state.close()


# -------------------------------------------------------------- a server that forbids things


async def test_no_dangerous_command_is_needed(redis_url: str) -> None:
    name = secrets.token_hex(4)
    with Redis.from_url(redis_url) as admin:
        rules = ["on", ">secret", "~mine:*", "&*", "+@all", "-@dangerous"]
        admin.execute_command("ACL", "SETUSER", name, *rules)
        try:
            at = redis_url.replace("redis://", f"redis://{name}:secret@")
            state = connected(at, "mine:")
            for call in CALLS.values():
                await call(state)
            assert await state.lacks() == {}
            with pytest.raises(StateRefused):
                await state.eviction_policy()
            await state.close()
        finally:
            admin.execute_command("ACL", "DELUSER", name)


async def test_commands_that_we_do_not_need_may_have_other_names(
    tmp_path: Path,
) -> None:
    renamed = ["INFO", "CONFIG", "KEYS", "FLUSHALL", "DEBUG", "SCAN", "ROLE"]
    options = [part for name in renamed for part in ("--rename-command", name, "")]
    with redis_server(tmp_path / "r", *options) as server:
        state = connected(f"redis://127.0.0.1:{server.port}/0", "p:")
        for call in CALLS.values():
            await call(state)
        await state.close()


async def test_missing_commands_of_a_server_are_listed(tmp_path: Path) -> None:
    options = ["--rename-command", "XDEL", "", "--rename-command", "SPOP", ""]
    options += ["--rename-command", "XADD", ""]
    with redis_server(tmp_path / "r", *options) as server:
        state = connected(f"redis://127.0.0.1:{server.port}/0", "p:")
        lacks = await state.lacks()
        assert set(lacks) == {"SPOP", "XADD"}
        assert "unknown" in lacks["XADD"].lower()
        await state.close()


async def test_a_server_without_scripts_lacks_them(tmp_path: Path) -> None:
    options = ["--rename-command", "EVALSHA", "EVALSHA_"]
    with redis_server(tmp_path / "r", *options) as server:
        state = connected(f"redis://127.0.0.1:{server.port}/0", "p:")
        assert "unknown command" in (await state.lacks())["EVALSHA"]
        await state.close()


async def test_a_server_that_forbids_our_keys_says_so(redis_url: str) -> None:
    name = secrets.token_hex(4)
    with Redis.from_url(redis_url) as admin:
        rules = ["on", ">secret", "~theirs:*", "+@all"]
        admin.execute_command("ACL", "SETUSER", name, *rules)
        try:
            at = redis_url.replace("redis://", f"redis://{name}:secret@")
            state = connected(at, "mine:")
            ((command, said),) = (await state.lacks()).items()
            assert command == "EVALSHA" and "keys" in said
            await state.close()
        finally:
            admin.execute_command("ACL", "DELUSER", name)


async def test_the_eviction_policy_is_read(redis_url: str) -> None:
    state = connected(redis_url)
    assert await state.eviction_policy() == "noeviction"
    await state.close()
