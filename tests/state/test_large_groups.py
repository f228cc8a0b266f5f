"""A group with very many presences: no call takes more than a step of it, so Redis serves others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from phx_protocol.state import STEP, Position
from phx_protocol.state.redis import RedisState
from phx_protocol.state.store import tag_of
from tests.support import servers
from tests.support.state import admin, connected, end_lease, redis

__all__ = ["redis"]

GROUP = "Presence\nroom:1"
#: an entry as a client that sends no meta of its own has it
ENTRY = (
    b'["%s","user:1",1795988509761245,{"online_at":1795988509,"phx_ref":"xxxxxxxxxx"}]'
)
#: microseconds of Redis's time that a command may take
SLOW = 5000


def many(count: int, begin: str = "r") -> dict[str, bytes]:
    return {f"{begin}{i:07d}": ENTRY % str(i).encode() for i in range(count)}


Stages = list[tuple[str, Callable[[], Awaitable[Any]]]]


def a_life(state: RedisState, other: RedisState, count: int) -> Stages:
    """All that happens to a group of so many presences of one node, in order."""
    mine = many(count)
    newcomer = {"new": ENTRY % b"new"}
    topics = {f"t{i}": 1 for i in range(count)}

    async def died() -> None:
        await end_lease(state, "a1")
        assert await other.reap() == 1
        assert (await other.entries(GROUP))[1] == {}

    return [
        ("all are written again", lambda: state.replace(GROUP, "a1", mine)),
        ("a join", lambda: state.change(GROUP, "a1", newcomer, [])),
        ("a leave", lambda: state.change(GROUP, "a1", {}, ["new"])),
        ("the list", lambda: other.entries(GROUP)),
        ("a beat", lambda: state.beat("a1", {})),
        ("the positions", lambda: state.positions([GROUP], "a1")),
        ("half are replaced", lambda: state.replace(GROUP, "a1", many(count // 2))),
        ("the others again", lambda: state.replace(GROUP, "a1", mine)),
        ("the counts", lambda: state.count("a1", topics)),
        ("the list of counts", state.counts),
        ("the death of the node", died),
    ]


async def test_no_call_is_about_more_than_one_step(
    redis: RedisState, redis_url: str
) -> None:
    other = connected(redis_url, redis._prefix)
    await redis.beat("a1", {}, first=True)
    sizes: list[int] = []
    for state in (redis, other):
        note_sizes(state, sizes)
    for _, stage in a_life(redis, other, 3 * STEP + 7):
        await stage()
    # refs with their entries, and a few words more; a page of HSCAN may be somewhat larger
    assert 2 * STEP < max(sizes) < 2.5 * STEP
    await other.close()


def note_sizes(state: RedisState, sizes: list[int]) -> None:
    """Note how many values each call has, and how many its answer."""
    call = state._client.call

    async def noting(*words: Any) -> Any:
        found = await call(*words)
        sizes.extend((len(words), values(found)))
        return found

    state._client.call = noting  # type: ignore[method-assign]


def values(answer: Any) -> int:
    return sum(map(values, answer)) if isinstance(answer, list) else 1


@pytest.mark.big
async def test_no_call_takes_redis_longer_than_5_ms(tmp_path: Path) -> None:
    """The time of a command includes that in which other processes had its core: so in one of some lives."""
    found = [await slow_commands(tmp_path / str(life)) for life in range(5)]
    assert {} in found, found


async def slow_commands(directory: Path) -> dict[str, list[int]]:
    """Live through it all; return what of it had commands that were slow, and their microseconds."""
    directory.mkdir()
    found: dict[str, list[int]] = {}
    with servers.redis(directory) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        state, other = connected(url, "p:"), connected(url, "p:")
        there = admin(state)
        there.config_set("slowlog-log-slower-than", SLOW)
        await state.beat("a1", {}, first=True)
        await other.beat("b2", {}, first=True)
        for what, stage in a_life(state, other, 100_000):
            there.slowlog_reset()
            await stage()
            if slow := there.slowlog_get(9):
                found[what] = [entry["duration"] for entry in slow]
        await state.close()
        await other.close()
    return found


# ------------------------------------------------------------- a list in several pages


async def test_a_list_is_that_of_one_position_though_the_group_changes_meanwhile(
    redis: RedisState, redis_url: str
) -> None:
    """Who stays is in it, who has left is not, and whoever is updated is in it exactly once."""
    other = connected(redis_url, redis._prefix)
    await redis.replace(GROUP, "a1", many(4 * STEP))
    seen: dict[int, set[str]] = {}
    latest = set(many(4 * STEP))

    async def change(i: int) -> None:
        """Somebody is updated: one ref goes and another one comes, in one step."""
        old, new = f"r{i * 13 % (4 * STEP):07d}", f"u{i}"
        if old not in latest:
            return
        _, position = await other.change(GROUP, "b2", {new: ENTRY}, [old])
        latest.remove(old)
        latest.add(new)
        seen[position.n] = set(latest)

    async def changes() -> None:
        for i in range(1500):
            await change(i)

    changing = asyncio.ensure_future(changes())
    read = 0
    while not changing.done():
        position, found = await redis.entries(GROUP)
        if position.n in seen:
            assert found.keys() == seen[position.n]
            read += 1
        await asyncio.sleep(0)
    await changing
    assert read > 3
    await other.close()


async def test_a_list_begins_again_when_not_all_changes_are_known(
    redis: RedisState,
) -> None:
    await redis.replace(GROUP, "a1", many(2 * STEP))
    recent = redis._store.key(tag_of(GROUP), f"recent:{GROUP}")
    read, reads = redis._store.read, 0

    async def and_then_a_change(tag: str, command: str, key: str, *args: Any) -> Any:
        nonlocal reads
        page = await read(tag, command, key, *args)
        if command == "HSCAN" and (reads := reads + 1) == 1:
            await redis.change(GROUP, "a1", {"new": ENTRY}, ["r0000001"])
            admin(redis).delete(recent)  # as an eviction does
        return page

    redis._store.read = and_then_a_change  # type: ignore[method-assign]
    position, found = await redis.entries(GROUP)
    assert position.n == 2 * STEP + 2
    assert found.keys() == {*many(2 * STEP), "new"} - {"r0000001"}
    assert reads >= 4  # pages of two readings


async def test_a_group_that_is_lost_while_it_is_read_is_empty(
    redis: RedisState,
) -> None:
    await redis.replace(GROUP, "a1", many(2 * STEP))
    read = redis._store.read

    async def and_then_a_loss(tag: str, command: str, key: str, *args: Any) -> Any:
        page = await read(tag, command, key, *args)
        admin(redis).delete(redis._store.key(tag, f"position:{GROUP}"))
        return page

    redis._store.read = and_then_a_loss  # type: ignore[method-assign]
    assert await redis.entries(GROUP) == (Position("", 0), {})


async def test_a_group_that_is_lost_while_it_is_replaced_is_replaced_again(
    redis: RedisState,
) -> None:
    change, steps = redis.change, 0

    async def and_then_a_loss(*args: Any) -> Any:
        nonlocal steps
        found = await change(*args)
        if (steps := steps + 1) == 2:
            at = redis._store.key(tag_of(GROUP), f"entries:{GROUP}")
            admin(redis).delete(at)  # as an eviction does
        return found

    redis.change = and_then_a_loss  # type: ignore[method-assign]
    position = await redis.replace(GROUP, "a1", many(3 * STEP))
    assert await redis.entries(GROUP) == (position, many(3 * STEP))


# -------------------------------------------------------------------- a reaper that dies


async def test_another_one_goes_on_where_a_reaper_died(
    redis: RedisState, redis_url: str
) -> None:
    other = connected(redis_url, redis._prefix)
    await redis.beat("a1", {}, first=True)
    await redis.count("a1", {"t": 1})
    groups = [f"g{i}" for i in range(40)]
    for group in groups:
        await redis.change(group, "a1", {"r1": ENTRY}, [])
    await redis.replace(GROUP, "a1", many(3 * STEP))
    await redis.change(GROUP, "b2", {"stays": ENTRY}, [])
    await other.beat("b2", {}, first=True)
    await end_lease(redis, "a1")
    run, steps = redis._store.run, 0

    async def until_it_dies(tag: str, name: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += name == "bury"
        if steps > 3:
            raise SystemError("the process is gone")
        return await run(tag, name, *args, **kwargs)

    redis._store.run = until_it_dies  # type: ignore[method-assign]
    with pytest.raises(SystemError):
        await redis.reap()
    assert await other.reap() == 1
    assert [p.n for p in await other.positions(groups)] == [2] * len(groups)
    position, found = await other.entries(GROUP)
    assert list(found) == ["stays"] and position.n == 6 * STEP + 1
    assert await other.reap() == 0
    await other.close()
