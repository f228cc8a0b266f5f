"""Every state by example, in memory and on Redis: the cases that the model does not have."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol.exceptions import StateError
from phx_protocol.state import Item, Position, State
from phx_protocol.state.base import NOWHERE, PAGE_BYTES, STEP
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import CHUNK, RedisState
from tests.support.state import connected, end_lease, ids, item, redis

__all__ = ["redis"]


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


@pytest.fixture(params=["memory", "redis"])
async def state(
    request: pytest.FixtureRequest, redis: RedisState
) -> AsyncIterator[State]:
    yield redis if request.param == "redis" else MemoryState()


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


async def test_data_of_a_dead_node_stays_until_it_is_reaped(state: State) -> None:
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


async def test_data_of_a_node_that_never_beat_is_reaped(state: State) -> None:
    await state.change("lobby", "a1", {"r1": b"one"}, [])
    assert not await state.beat("a1", {})
    assert await state.reap() == 1
    assert (await state.entries("lobby"))[1] == {}
    assert await state.beat("a1", {}, first=True)


async def test_a_node_that_begins_to_beat_keeps_what_it_has_already(
    state: State,
) -> None:
    await state.change("lobby", "a1", {"r1": b"one"}, [])
    assert await state.beat("a1", {}, first=True)
    assert await state.reap() == 0
    assert (await state.entries("lobby"))[1] == {"r1": b"one"}


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


async def test_a_node_is_not_confused_with_one_that_has_a_longer_name(
    state: State,
) -> None:
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
    position = await state.replace("lobby", "a1", large)
    assert position.n == len(large)
    assert await state.entries("lobby") == (position, large)
    assert (await state.replace("lobby", "a1", {})).n == 2 * len(large)


async def test_one_step_changes_a_limited_number_of_entries(state: State) -> None:
    some = {f"r{i}": b"" for i in range(STEP)}
    assert (await state.change("lobby", "a1", some, []))[1].n == STEP
    with pytest.raises(ValueError, match="500 entries, not 501"):
        await state.change("lobby", "a1", some, ["r1"])
    assert (await state.positions(["lobby"]))[0].n == STEP


async def test_changes_of_a_group_at_the_same_time_are_all_made(state: State) -> None:
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


async def test_a_broadcast_is_kept_byte_for_byte(state: State) -> None:
    payloads = [EVERY_BYTE, b"", b"{}", Raw(b"{}"), Raw('{"ü": "\\u0000"}'.encode())]
    items = [
        Item("t", f"id-{i}", "ü\n\x00", payload, "sender:ü", 9, 60)
        for i, payload in enumerate(payloads)
    ]
    items.append(items[0]._replace(event="", sender=None))
    await state.append(items)
    _, kept = await state.since("t", 0, 60)
    assert [k[1:5] for k in kept] == [item[1:5] for item in items]
    assert [type(k.payload) for k in kept] == [type(item.payload) for item in items]
    assert [k.n for k in kept] == [1, 2, 3, 4, 5, 6]


async def test_a_broadcast_is_kept_with_its_time(state: State) -> None:
    begin = time.time()
    for i in range(3):
        await state.append([item(f"{i}")])
        await asyncio.sleep(0.005)
    _, kept = await state.since("topic", 0, 60)
    times = [k.at for k in kept]
    assert begin - 0.002 <= times[0] < times[1] < times[2] <= time.time()


async def test_a_rewind_begins_where_a_broadcast_is_new_enough(state: State) -> None:
    everything: Any = {"count": None, "limit": 10_000}
    for _ in range(3):
        await state.append([item("old")])
    await asyncio.sleep(0.25)
    for _ in range(2):
        (head,) = await state.append([item("new")])
    for seconds, first in [(0.2, 3), (30.0, 0), (0.001, 5), (None, 0)]:
        if seconds == 0.001:
            await asyncio.sleep(0.01)
        found = await state.rewind("topic", 5, 60, seconds=seconds, **everything)
        assert found == (head, first)
    found = await state.rewind("topic", 5, 60, count=1, seconds=0.2, limit=10_000)
    assert found == (head, 4)
    assert await state.rewind("topic", 5, 0.2, seconds=None, **everything) == (head, 3)
    assert await state.rewind("other", 5, 60, seconds=None, **everything) == (
        NOWHERE,
        5,
    )


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
    appended = sorted(sum(tasks, []))
    assert [n for n, _ in appended] == list(range(1, 161))
    _, kept = await state.since("topic", 60, 60)
    assert [(k.n, k.id) for k in kept] == appended[60:]


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


async def test_a_broadcast_older_than_its_ttl_is_gone(state: State) -> None:
    (first,) = await state.append([item("1", ttl=0.2)])
    assert ids(await state.since("topic", 0, 0.2)) == ["1"]
    await asyncio.sleep(0.25)
    assert await state.since("topic", 0, 0.2, partial=True) == (first, [])
    # a client that missed nothing learns that, and one that missed it gets no part of it
    await state.append([item("2", ttl=0.2)])
    assert ids(await state.since("topic", 1, 0.2)) == ["2"]
    assert ids(await state.since("topic", 0, 0.2)) == []
    assert ids(await state.since("topic", 0, 0.2, partial=True)) == ["2"]


async def test_the_oldest_kept_broadcast_is_dropped_first(
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


async def test_a_history_with_more_bytes_than_the_limit_is_not_read_at_all(
    state: State,
) -> None:
    await state.append([item(f"{i}", payload=1000) for i in range(10)])
    each = (await state.since("topic", 9, 60))[1][0].bytes
    for missed in range(1, 11):
        limits = (missed * each - 1, missed * each)
        for limit, count in zip(limits, (0, missed)):
            found = await state.since("topic", 10 - missed, 60, limit=limit)
            assert len(found[1]) == count
