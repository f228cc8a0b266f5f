"""The two homes of the state, by example: what the model does not know of, and where Redis breaks."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.asyncio import ConnectionPool

from phx_protocol.exceptions import StateError
from phx_protocol.state import Item, Position, State
from phx_protocol.state.base import NOWHERE, PAGE_BYTES
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import CHUNK, ITEMS, RedisState
from tests.support import servers
from tests.support.state import end_lease, forget, item, key

ODD_NAMES = [
    "",
    " ",
    "\n",
    "room:1\nroom:2",
    "room:\x00",
    "room:*",
    "räume:☃",
    "🎉" * 1000,
]
EVERY_BYTE = bytes(range(256))


def connected(url: str, prefix: str | None = None) -> RedisState:
    """A state with as much patience as the tests have."""
    prefix = prefix or f"{secrets.token_hex(8)}:"
    patience = {"socket_timeout": 5, "socket_connect_timeout": 5}
    pool = ConnectionPool.from_url(url, client_name=prefix, **patience)
    return RedisState(pool, prefix)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisState]:
    state = connected(redis_url)
    yield state
    await forget(state)
    await state.close()


@pytest.fixture(params=["memory", "redis"])
async def state(
    request: pytest.FixtureRequest, redis: RedisState
) -> AsyncIterator[State]:
    yield redis if request.param == "redis" else MemoryState()


async def kept_keys(state: RedisState) -> set[str]:
    """Those that are neither the generation nor of one author."""
    some = ("author:", "done:", state._prefix)
    return {name for name in await keys(state) if not name.startswith(some)}


async def keys(state: RedisState) -> dict[str, int]:
    """All keys of `state` without their prefix, and the milliseconds until they expire."""
    found, prefix = {}, await key(state, "")
    async for name in state._redis.scan_iter(f"{state._prefix}*"):
        found[name.decode().removeprefix(prefix)] = await state._redis.pttl(name)
    return found


def ids(found: tuple[Position, list[Any]]) -> list[str]:
    return [kept.id for kept in found[1]]


# ------------------------------------------------------------------ nodes and what they own


async def test_a_node_is_seen_while_it_beats(state: State) -> None:
    about = {"pid": 1, "name": "ü\n", "nested": {"a": [1, None]}}
    assert await state.beat("a1", about, first=True)
    about["pid"] = 2
    assert (await state.nodes())["a1"]["pid"] == 1
    assert await state.beat("a1", about)
    assert await state.nodes() == {"a1": about}
    await state.leave("a1")
    assert await state.nodes() == {}


async def test_a_node_that_never_beat_is_not_renewed(state: State) -> None:
    assert not await state.beat("a1", {})
    assert await state.nodes() == {}


async def test_what_a_dead_node_owned_is_seen_until_it_is_reaped(state: State) -> None:
    await state.beat("a1", {}, first=True)
    await state.count("a1", {"room:1": 2})
    await state.change("lobby", "a1", {"r1": b"one"}, [])
    await end_lease(state, "a1")
    assert await state.nodes() == await state.counts() == {}
    position, entries = await state.entries("lobby")
    assert entries == {"r1": b"one"}
    assert await state.reap() == 1
    assert await state.entries("lobby") == (position._replace(n=position.n + 1), {})
    assert await state.reap() == 0


async def test_what_a_node_puts_before_it_ever_beat_is_reaped(state: State) -> None:
    await state.change("lobby", "a1", {"r1": b"one"}, [])
    assert not await state.beat("a1", {}, first=True)
    assert await state.reap() == 1
    assert (await state.entries("lobby"))[1] == {}
    assert await state.beat("a1", {}, first=True)


async def test_a_paused_node_goes_on_under_another_name(state: State) -> None:
    mine = {"r1": b"one", "r2": b"two"}
    await state.beat("a1", {}, first=True)
    _, position = await state.change("lobby", "a1", mine, [])
    await end_lease(state, "a1")

    assert not await state.beat("a1", {})
    assert not await state.beat("a1", {}, first=True)
    assert await state.beat("b2", {}, first=True)
    # nobody sees a change in this, neither now nor when the old name is reaped
    assert await state.replace("lobby", "b2", mine) == position
    assert await state.reap() == 1
    assert await state.entries("lobby") == (position, mine)


async def test_a_paused_node_may_come_too_late(state: State) -> None:
    mine = {"r1": b"one", "r2": b"two"}
    await state.beat("a1", {}, first=True)
    _, position = await state.change("lobby", "a1", mine, [])
    await end_lease(state, "a1")
    assert await state.reap() == 1
    assert not await state.beat("a1", {})
    await state.beat("b2", {}, first=True)
    # others have seen two leave, and see two join
    assert await state.replace("lobby", "b2", mine) == (position.epoch, position.n + 4)


async def test_a_node_is_not_one_whose_name_begins_with_its_own(state: State) -> None:
    await state.change("lobby", "a", {"r1": b"b"}, [])
    await state.change("lobby", "ab", {"r2": b""}, [])
    await state.leave("a")
    assert (await state.entries("lobby"))[1] == {"r2": b""}
    await state.change("lobby", "a", {"r1": b"b"}, [])
    await state.replace("lobby", "a", {})
    assert (await state.entries("lobby"))[1] == {"r2": b""}
    await state.leave("ab")
    assert (await state.entries("lobby"))[1] == {}


async def test_a_topic_without_subscribers_is_not_counted(state: State) -> None:
    await state.beat("a1", {}, first=True)
    await state.count("a1", {"t": 1, "u": 2, "v": 0})
    await state.count("a1", {"t": 0, "w": 0})
    assert await state.counts() == {"u": {"a1": 2}}
    await state.count("never", {"t": 1})
    assert await state.counts() == {"u": {"a1": 2}}


@pytest.mark.parametrize("left", [False, True])
async def test_a_node_with_many_groups_and_topics_is_gone_as_a_whole(
    state: State, left: bool
) -> None:
    many = 2 * CHUNK + 1
    names = [f"g{i}" for i in range(many)]
    await state.beat("a1", {}, first=True)
    await state.beat("b2", {}, first=True)
    await state.count("a1", {name: 1 for name in names})
    assert len(await state.counts()) == many
    for name in names:
        await state.change(name, "a1", {"r1": b"", "r2": b""}, [])
    await state.change(names[0], "b2", {"r3": b"stays"}, [])
    if left:
        await state.leave("a1")
    else:
        await end_lease(state, "a1")
        assert await state.reap() == 1
    assert await state.counts() == {}
    assert [p.n for p in await state.positions(names)] == [5] + [4] * (many - 1)
    assert (await state.entries(names[0]))[1] == {"r3": b"stays"}


async def test_a_group_may_be_large(state: State) -> None:
    large = {f"r{i}": b"%d" % i for i in range(20_000)}
    _, position = await state.change("lobby", "a1", large, [])
    assert await state.entries("lobby") == (position, large)
    assert (await state.change("lobby", "a1", {}, large))[1].n == 2 * len(large)


async def test_two_who_change_a_group_at_once_both_do(state: State) -> None:
    async def change(node: str) -> list[tuple[Position, Position]]:
        return [
            await state.change("lobby", node, {f"{node}{i}": b""}, []) for i in range(9)
        ]

    changes = sum(await asyncio.gather(*map(change, "abcd")), [])
    position, entries = await state.entries("lobby")
    assert (position.n, len(entries)) == (36, 36)
    # each began where another one ended
    assert sorted(before.n for before, _ in changes) == list(range(36))
    assert all(before.n + 1 == after.n for before, after in changes)


# ------------------------------------------------------------------------------- history


async def test_a_broadcast_is_kept_byte_for_byte(state: State) -> None:
    first = Item("t", "id-1", "ü\n\x00", EVERY_BYTE, None, 9, 60)
    second = Item("t", "id-2", "", b"", "sender:ü", 9, 60)
    await state.append([first, second])
    _, kept = await state.since("t", 0, 60)
    assert [k[1:] for k in kept] == [first[1:5], second[1:5]]
    assert [k.n for k in kept] == [1, 2]


async def test_an_entry_is_kept_byte_for_byte(state: State) -> None:
    entries = {"r1": b"", "r2": b"\n", "r3\n": b"a1\nx\n\n", "ü": EVERY_BYTE}
    await state.change("lobby", "a1", entries, [])
    assert (await state.entries("lobby"))[1] == entries
    await state.replace("lobby", "a1", {"r2": b"\n"})
    assert (await state.entries("lobby"))[1] == {"r2": b"\n"}


async def test_any_text_is_the_name_of_a_topic_of_its_own(state: State) -> None:
    await state.beat("a1", {}, first=True)
    await state.append([item(f"i{i}", name) for i, name in enumerate(ODD_NAMES)])
    await state.count("a1", {name: i + 1 for i, name in enumerate(ODD_NAMES)})
    for i, name in enumerate(ODD_NAMES):
        await state.change(name, "a1", {f"r{i}": b""}, [])
    for i, name in enumerate(ODD_NAMES):
        assert ids(await state.since(name, 0, 60)) == [f"i{i}"]
        assert list((await state.entries(name))[1]) == [f"r{i}"]
    counts = {name: {"a1": i + 1} for i, name in enumerate(ODD_NAMES)}
    assert await state.counts() == counts
    await state.leave("a1")
    assert {p.n for p in await state.positions(ODD_NAMES)} == {2}


async def test_items_of_several_topics_are_kept_in_one_call(state: State) -> None:
    names = ["a", "b", "a", "c", "a"]
    found = await state.append([item(f"i{i}", name) for i, name in enumerate(names)])
    assert [p.n for p in found] == [1, 1, 2, 1, 3]
    assert len({p.epoch for p in found}) == 3
    assert ids(await state.since("a", 0, 60)) == ["i0", "i2", "i4"]


async def test_tasks_that_append_at_once_each_get_positions_of_their_own(
    state: State,
) -> None:
    async def append(task: int) -> list[tuple[int, str]]:
        found = []
        for i in range(20):
            some = [item(f"{task}-{i}-{j}") for j in range(2)]
            for one, position in zip(some, await state.append(some)):
                found.append((position.n, one.id))
        return found

    tasks = await asyncio.gather(*map(append, range(4)))
    assert all(ns == sorted(ns) for ns in tasks)
    told = sorted(sum(tasks, []))
    assert [n for n, _ in told] == list(range(1, 161))
    _, kept = await state.since("topic", 60, 60)
    assert [(k.n, k.id) for k in kept] == told[60:]


async def test_processes_that_append_at_once_each_get_positions_of_their_own(
    redis_url: str, redis: RedisState
) -> None:
    processes = [connected(redis_url, redis._prefix) for _ in range(4)]
    found = await asyncio.gather(
        *(p.append([item(f"{i}-{j}")]) for i, p in enumerate(processes) for j in (1, 2))
    )
    assert sorted(p.n for (p,) in found) == list(range(1, 9))
    assert len({p.epoch for (p,) in found}) == 1
    for process in processes:
        await process.close()


def test_threads_that_append_at_once_each_get_positions_of_their_own() -> None:
    state, found = MemoryState(), []

    async def append(thread: int) -> None:
        for i in range(200):
            found.extend(await state.append([item(f"{thread}-{i}", size=50)]))

    threads = [threading.Thread(target=asyncio.run, args=[append(i)]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.n for p in found) == list(range(1, 801))
    assert len({p.epoch for p in found}) == 1


async def test_what_is_older_than_its_ttl_is_gone(state: State) -> None:
    (first,) = await state.append([item("1", ttl=0.2)])
    assert ids(await state.since("topic", 0, 0.2)) == ["1"]
    await asyncio.sleep(0.25)
    assert await state.since("topic", 0, 0.2, partial=True) == (first, [])
    # who missed nothing is told so, and who missed it gets no part of it
    await state.append([item("2", ttl=0.2)])
    assert ids(await state.since("topic", 1, 0.2)) == ["2"]
    assert ids(await state.since("topic", 0, 0.2)) == []
    assert ids(await state.since("topic", 0, 0.2, partial=True)) == ["2"]


async def test_of_what_is_kept_the_oldest_goes_first_when_its_time_comes(
    state: State,
) -> None:
    await state.append([item("1", ttl=0.3)])
    await asyncio.sleep(0.2)
    await state.append([item("2", ttl=0.3)])
    await asyncio.sleep(0.15)
    assert ids(await state.since("topic", 0, 0.3, partial=True)) == ["2"]


async def test_a_position_that_cannot_be_misses_nothing(state: State) -> None:
    (position,) = await state.append([item("1")])
    far = Position.parse(f"e1-{10**90}")
    assert far is not None
    for n in (2, far.n):
        for partial in (False, True):
            found = await state.since("topic", n, 60, partial=partial)
            assert found == (position, [])


def test_a_position_is_read_as_it_is_written() -> None:
    for position in (Position("e0a", 0), Position("e-1", 10**20)):
        assert Position.parse(str(position)) == position
    for text in (
        "",
        "-",
        "e",
        "e-",
        "-1",
        "e-x",
        "e-+1",
        "e-1 ",
        "e-٣",
        "e" * 99 + "-1",
    ):
        assert Position.parse(text) is None
    for other in (None, 1, b"e-1", ["e", 1]):
        assert Position.parse(other) is None


async def test_memory_does_not_hold_payloads_for_longer_than_their_ttl() -> None:
    now = 0.0
    state = MemoryState(clock=lambda: now)
    (position,) = await state.append([item("1", ttl=10)])
    now = 11.0
    await state.reap()
    assert not state._topics["topic"].kept
    assert await state.heads({"topic": 10}) == [position]


async def test_many_are_asked_for_at_once(state: State) -> None:
    names = [f"t{i}" for i in range(2 * CHUNK + 1)]
    opened = [await state.open(name, 60) for name in names]
    asked = {name: 60.0 for name in ("never", *names)}
    assert await state.heads(asked) == [NOWHERE, *opened]
    assert await state.heads({}) == await state.positions([]) == []
    assert await state.append([]) == []


async def test_a_thousand_calls_at_once_are_all_answered(state: State) -> None:
    calls = [state.open(f"t{i}", 60) for i in range(1000)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [f for f in found if isinstance(f, StateError)] == []


async def test_a_history_has_so_many_bytes_at_the_most(state: State) -> None:
    many = [item(f"{i}", payload=1000)._replace(max_bytes=5500) for i in range(9)]
    positions = await state.append(many[:3])
    assert await state.kept("topic", 60) == (positions[-1], 3)
    positions += await state.append(many[3:])
    assert await state.kept("topic", 60) == (positions[-1], 5)
    assert ids(await state.since("topic", 4, 60)) == list("45678")
    assert ids(await state.since("topic", 3, 60)) == []
    small = [item(f"s{i}")._replace(max_bytes=5500) for i in range(50)]
    await state.append(small)
    assert (await state.kept("topic", 60))[1] in (53, 54)
    # one that has too many takes its place, and nothing else is left
    last = (await state.append([item("large", payload=6000)._replace(max_bytes=5500)]))[
        0
    ]
    assert await state.kept("topic", 60) == (last, 0)
    assert last.n == 60
    assert ids(await state.since("topic", 59, 60, partial=True)) == []
    await state.append([item("next")])
    assert ids(await state.since("topic", 60, 60)) == ["next"]


async def test_a_history_is_read_in_pages(state: State) -> None:
    size = PAGE_BYTES // 3
    await state.append([item(f"{i}", payload=size) for i in range(10)])
    found, n = [], 0
    while n < 10:
        page = (await state.since("topic", n, 60))[1]
        assert 1 <= len(page) <= 4
        assert [kept.n for kept in page] == list(range(n + 1, n + 1 + len(page)))
        found += page
        n = page[-1].n
    assert [kept.id for kept in found] == list("0123456789")


async def test_what_is_more_than_is_wanted_is_not_read_at_all(state: State) -> None:
    await state.append([item(f"{i}", payload=1000) for i in range(10)])
    each = (await state.since("topic", 9, 60))[1][0].bytes
    for missed in range(1, 11):
        limits = (missed * each - 1, missed * each)
        for limit, count in zip(limits, (0, missed)):
            found = await state.since("topic", 10 - missed, 60, limit=limit)
            assert len(found[1]) == count


async def test_redis_is_not_asked_for_more_than_a_page(redis: RedisState) -> None:
    many = [item(f"{i}", payload=2**18, size=99) for i in range(40)]
    await redis.append([one._replace(max_bytes=2**30) for one in many])
    before = (await redis._redis.info("stats"))["total_net_output_bytes"]
    assert len((await redis.since("topic", 0, 60))[1]) == 1
    assert (await redis.since("topic", 0, 60, limit=2**20))[1] == []
    assert (await redis.kept("topic", 60))[1] == 40
    after = (await redis._redis.info("stats"))["total_net_output_bytes"]
    assert after - before < 2 * 2**18


# ------------------------------------------------------------------------- keys of Redis

CALLS: dict[str, Callable[[State], Awaitable[Any]]] = {
    "beat first": lambda s: s.beat("a1", {}, first=True),
    "beat": lambda s: s.beat("a1", {}),
    "count": lambda s: s.count("a1", {"t": 1}),
    "count of an unknown node": lambda s: s.count("c3", {"t": 1}),
    "counts": lambda s: s.counts(),
    "nodes": lambda s: s.nodes(),
    "change": lambda s: s.change("g", "a1", {"r1": b"", "r2": b""}, ["r3"]),
    "change of an unknown node": lambda s: s.change("h", "b2", {"r1": b""}, []),
    "change of nothing": lambda s: s.change("i", "a1", {}, ["r9"]),
    "replace": lambda s: s.replace("g", "a1", {"r1": b""}),
    "replace of an unknown group": lambda s: s.replace("j", "a1", {}),
    "entries": lambda s: s.entries("g"),
    "positions": lambda s: s.positions(["g", "h", "never"]),
    "beat again": lambda s: s.beat("a1", {}),
    "reap": lambda s: s.reap(),
    "open": lambda s: s.open("t", 60),
    "append": lambda s: s.append([item("1", "t"), item("2", "u")]),
    "append of no ttl": lambda s: s.append([item("3", "v", ttl=0)]),
    "since": lambda s: s.since("t", 0, 60),
    "heads": lambda s: s.heads({"t": 60, "never": 60}),
    "reset": lambda s: s.reset("u"),
    "leave": lambda s: s.leave("a1"),
    "leave of an unknown node": lambda s: s.leave("c3"),
}


async def test_every_key_expires_whatever_was_called_last(redis: RedisState) -> None:
    for called, call in CALLS.items():
        await call(redis)
        for name, ms in (await keys(redis)).items():
            history = name.startswith(("head:", "history:"))
            limit = 3600 if history else redis.expiry
            if name.endswith("generation"):
                limit = 2 * 3600
            assert 0 < ms <= limit * 1000, (called, name)


async def test_a_live_node_keeps_all_of_its_keys_from_expiring(
    redis: RedisState,
) -> None:
    await redis.beat("a1", {}, first=True)
    await redis.count("a1", {"t": 1})
    await redis.change("g", "a1", {"r1": b""}, [])
    await redis.open("t", 60)
    for name in await keys(redis):
        whole = name if name.endswith("generation") else await key(redis, name)
        await redis._redis.pexpire(whole, 10_000)
    await redis.beat("a1", {})
    await redis.positions(["g"])
    await redis.heads({"t": 60})
    soon = {key for key, ms in (await keys(redis)).items() if ms <= 10_000}
    assert not soon
    assert len(await keys(redis)) == 9


async def test_what_nodes_leave_behind_are_positions(redis: RedisState) -> None:
    for node in ("a1", "b2", "c3"):
        await redis.beat(node, {}, first=True)
        await redis.count(node, {"t": 1, "u": 2})
        await redis.change("g", node, {f"r{node}": b""}, [])
        await redis.change("h", node, {f"r{node}": b""}, [])
    await redis.append([item("1", "t", ttl=0.1), item("2", "u")])
    await redis.reset("u")
    await redis.leave("a1")
    await end_lease(redis, "b2")
    await end_lease(redis, "c3")
    assert await redis.reap() == 2
    await asyncio.sleep(0.15)
    assert await kept_keys(redis) == {"position:g", "position:h", "head:t"}
    await redis.reset("t")
    assert await kept_keys(redis) == {"position:g", "position:h"}


@pytest.mark.parametrize("begin", ["open", "append"])
async def test_a_history_whose_position_was_lost_begins_anew(
    redis: RedisState, begin: str
) -> None:
    before = await redis.append([item("1", "t"), item("2", "t")])
    await redis._redis.delete(await key(redis, "head:t"))
    assert await redis.since("t", 0, 60, partial=True) == (NOWHERE, [])
    assert "history:t" in await keys(redis)
    await CALLS[begin](redis)
    position, kept = await redis.since("t", 0, 60)
    assert position.epoch != before[0].epoch
    # nothing of the old one is left
    assert await redis._redis.xlen(await key(redis, "history:t")) == len(kept)
    assert await redis.open("t", 60) == position


async def test_redis_holds_nothing_that_is_older_than_its_ttl(
    redis: RedisState,
) -> None:
    await redis.append([item("1", "t", ttl=0.2)])
    await asyncio.sleep(0.1)
    await redis.append([item("2", "t", ttl=0.2)])
    await asyncio.sleep(0.15)
    await redis.append([item("3", "t", ttl=0.2)])
    assert await redis._redis.xlen(await key(redis, "history:t")) == 2


async def test_a_clock_of_redis_that_goes_back_changes_no_order(
    redis: RedisState,
) -> None:
    await redis.append([item("1", "t")])
    # as if that had been an hour from now
    later = int((time.time() + 3600) * 1000)
    await redis._redis.hset(await key(redis, "head:t"), "ms", later)
    found = await redis.append([item("2", "t"), item("3", "t")])
    assert [p.n for p in found] == [2, 3]
    assert ids(await redis.since("t", 1, 60)) == ["2", "3"]


async def test_other_prefixes_see_nothing(redis_url: str, redis: RedisState) -> None:
    for call in CALLS.values():
        await call(redis)
    other = connected(redis_url)
    assert await other.nodes() == await other.counts() == {}
    assert await other.positions(["g"]) == await other.heads({"t": 60}) == [NOWHERE]
    assert await other.reap() == 0
    await other.close()


# ----------------------------------------------------------------------- Redis that breaks


class Proxy:
    """Stands in front of Redis. It breaks at the next script when it is told to."""

    def __init__(self, url: str) -> None:
        self.redis = urlsplit(url)
        self.breaks: list[bool] = []
        self.broke = 0

    async def __aenter__(self) -> Proxy:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        self.url = f"redis://{host}:{port}{self.redis.path}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()

    def break_down(self, *, silent: bool = False) -> None:
        """Swallow the answers to the next script, then cut the connection, or say nothing more."""
        self.breaks.append(silent)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(
            self.redis.hostname, self.redis.port
        )
        broken: list[bool] = []  # with whether to be silent

        async def answers() -> None:
            while data := await redis_reader.read(2**16):
                if not broken:
                    writer.write(data)
                elif not broken[0]:
                    break
            writer.close()

        answering = asyncio.create_task(answers())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**20):
                if b"EVALSHA" in data and self.breaks:
                    self.broke += 1
                    broken.append(self.breaks.pop(0))
                redis_writer.write(data)
        redis_writer.close()
        await answering


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[RedisState]:
    """A state whose Redis is behind the proxy, and all of its scripts are there."""
    state = connected(proxy.url)
    for call in CALLS.values():
        await call(state)
    yield state
    await forget(state)
    await state.close()


async def test_an_append_whose_answer_is_lost_is_kept_once(
    proxy: Proxy, behind: RedisState
) -> None:
    await behind.append([item("1")])
    proxy.break_down()
    found = await behind.append([item("2"), item("3"), item("2", "another")])
    assert proxy.broke == 1
    assert [p.n for p in found] == [2, 3, 1]
    await behind.append([item("4")])
    assert ids(await behind.since("topic", 0, 60)) == ["1", "2", "3", "4"]
    assert ids(await behind.since("another", 0, 60)) == ["2"]


async def test_an_append_that_is_lost_halfway_is_kept_as_a_whole_and_in_order(
    proxy: Proxy, behind: RedisState
) -> None:
    many = [item(f"{i}", size=2 * ITEMS + 5) for i in range(2 * ITEMS + 5)]
    proxy.break_down()
    found = await behind.append(many)
    assert proxy.broke == 1
    assert [p.n for p in found] == list(range(1, len(many) + 1))
    kept = ids(await behind.since("topic", 0, 60))
    assert kept == [one.id for one in many]


async def test_an_append_that_is_lost_twice_is_an_error(
    proxy: Proxy, behind: RedisState
) -> None:
    proxy.break_down()
    proxy.break_down()
    with pytest.raises(StateError):
        await behind.append([item("1")])
    assert ids(await behind.since("topic", 0, 60)) == ["1"]


async def test_a_step_whose_answer_is_lost_is_done_once(
    proxy: Proxy, behind: RedisState
) -> None:
    proxy.break_down()
    assert await behind.beat("d4", {"n": 1}, first=True)
    proxy.break_down()
    await behind.count("d4", {"t": 3})
    assert await behind.counts() == {"t": {"d4": 3}}
    proxy.break_down()
    _, position = await behind.change("lobby", "d4", {"r1": b"", "r2": b""}, ["r3"])
    assert position.n == 2
    proxy.break_down()
    assert (await behind.replace("lobby", "d4", {"r2": b""})).n == 3
    assert (await behind.entries("lobby"))[1] == {"r2": b""}
    proxy.break_down()
    assert await behind.open("new", 60) == (await behind.heads({"new": 60}))[0]
    proxy.break_down()
    await behind.leave("d4")
    assert (await behind.positions(["lobby"]))[0] == (position.epoch, 4)
    assert proxy.broke == 6


@pytest.mark.parametrize("name", ["beat", "change", "since", "append", "heads"])
async def test_a_redis_that_says_nothing_is_an_error_in_time(
    proxy: Proxy, behind: RedisState, name: str
) -> None:
    behind._redis.connection_pool.connection_kwargs["socket_timeout"] = 0.1
    await behind._redis.connection_pool.disconnect()
    behind._redis.connection_pool.reset()
    proxy.break_down(silent=True)
    proxy.break_down(silent=True)
    began = time.monotonic()
    with pytest.raises(StateError):
        await CALLS[name](behind)
    assert 0.2 <= time.monotonic() - began < 2
    await CALLS[name](behind)


@pytest.mark.parametrize("name", ["since", "append"])
async def test_who_is_cancelled_leaves_nobody_the_wrong_answer(
    proxy: Proxy, behind: RedisState, name: str
) -> None:
    await behind.open("mine", 60)
    proxy.break_down(silent=True)
    calling = asyncio.ensure_future(CALLS[name](behind))
    while not proxy.broke:
        await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    for i in range(3):
        assert ids(await behind.since("mine", i, 60)) == []
        assert (await behind.append([item(f"{i}", "mine")]))[0].n == i + 1


async def test_connections_that_died_while_they_were_idle_are_no_error(
    redis_url: str, redis: RedisState
) -> None:
    await asyncio.gather(*(redis.open(f"t{i}", 60) for i in range(20)))
    # this loop does not run meanwhile: it cannot know of it
    with Redis.from_url(redis_url) as other:
        mine = [c for c in other.client_list() if c["name"] == redis._prefix]
        assert len(mine) == 20
        for client in mine:
            other.client_kill_filter(_id=client["id"])
    calls = [redis.append([item(f"{i}")]) for i in range(20)]
    found = await asyncio.gather(*calls, *(redis.open("topic", 60) for _ in range(20)))
    assert sorted(p.n for (p,) in found[:20]) == list(range(1, 21))


async def test_scripts_that_redis_forgot_are_told_again(redis: RedisState) -> None:
    for _ in range(2):
        for call in CALLS.values():
            await redis._redis.script_flush()
            await call(redis)


async def test_without_redis_every_call_is_an_error_until_it_is_back(
    tmp_path: Path,
) -> None:
    port = servers.free_port()
    state = connected(f"redis://127.0.0.1:{port}/0", "p:")
    for _ in range(2):
        for call in CALLS.values():
            with pytest.raises(StateError):
                await call(state)
        with servers.redis(tmp_path, port):
            for call in CALLS.values():
                await call(state)
            # several connections, that will all be dead
            await asyncio.gather(*(state.open(f"t{i}", 60) for i in range(10)))
    with pytest.raises(StateError):
        await state.heads({"t": 60})
    await state.close()


async def test_after_a_restart_of_redis_everything_begins_anew(tmp_path: Path) -> None:
    port = servers.free_port()
    state = connected(f"redis://127.0.0.1:{port}/0", "p:")

    async def put() -> tuple[Position, Position]:
        (kept,) = await state.append([item("1")])
        return (await state.change("lobby", "a1", {"r1": b""}, []))[1], kept

    with servers.redis(tmp_path, port):
        assert await state.beat("a1", {}, first=True)
        before = await put()
    with servers.redis(tmp_path, port):
        assert not await state.beat("a1", {})
        assert await state.nodes() == {}
        assert await state.positions(["lobby"]) == [NOWHERE]
        assert await state.since("topic", 1, 60) == (NOWHERE, [])
        after = await put()
    assert [p.n for p in before] == [p.n for p in after] == [1, 1]
    assert not {p.epoch for p in before} & {p.epoch for p in after}
    await state.close()


async def test_what_redis_refuses_is_an_error(redis: RedisState) -> None:
    await refuse(redis)
    with pytest.raises(StateError):
        await redis.beat("a1", {}, first=True)
    with pytest.raises(StateError):
        await redis.append([item("1")])


async def test_the_error_tells_what_redis_said(redis: RedisState) -> None:
    await refuse(redis)
    with pytest.raises(StateError, match="WRONGTYPE"):
        await redis.beat("a1", {}, first=True)
    with pytest.raises(StateError, match="WRONGTYPE"):
        await redis.append([item("1")])


async def refuse(redis: RedisState) -> None:
    """Make Redis refuse some scripts: their keys are something else already."""
    await redis.nodes()
    await redis.reset("another")  # whose keys are named after what there is now
    for name in ("nodes", "head:topic"):
        await redis._redis.set(await key(redis, name), "foreign", px=60_000)


async def test_memory_keeps_so_many_bytes_of_all_topics_and_the_largest_give_way(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.state.memory.MOST_BYTES", 1000)
    state = MemoryState()
    await state.append([item("a", "small")])
    for n in range(40):
        await state.append([item(str(n), f"large{n % 4}", payload=100)])
    topics = state._topics.values()
    assert sum(topic.bytes for topic in topics) == state._total.bytes <= 1000
    assert (await state.kept("small", 300))[1] == 1
    await state.reset("small")
    await state.lost()
    assert state._total.bytes == 0
