"""What the occupancy in Redis does beyond the model: with many names, and with those that Redis has lost."""

from __future__ import annotations

import asyncio

import pytest

from phx_protocol.state.occupancy import KEPT, SEEN, TOPIC, USER, Mark
from phx_protocol.state.redis import RedisState
from phx_protocol.state.redis_occupancy import SCANNED
from phx_protocol.state.store import TAGS, tag_of
from tests.support.state import admin, redis

__all__ = ["redis"]


def key(state: RedisState, tag: str, name: str) -> str:
    return state._store.key(tag, name)


async def test_a_node_with_many_names_is_vacated_in_steps(redis: RedisState) -> None:
    occupancy, count = redis.occupancy(USER), 2 * len(TAGS) * SCANNED
    names = [f"{n}" for n in range(count)]
    await occupancy.mark("a", [Mark(name, True) for name in names], 0.0)
    await occupancy.mark("b", [Mark("7", True)], 0.0)
    await redis.leave("a")
    seen = await occupancy.look(names, 0.0)
    assert [name for name, one in zip(names, seen) if one.is_here] == ["7"]
    assert all(one.at is not None for one in seen)


async def test_names_under_a_tag_that_redis_has_lost_are_returned(
    redis: RedisState,
) -> None:
    occupancy = redis.occupancy(TOPIC)
    names = [f"room:{n}" for n in range(100)]
    await occupancy.mark("a", [Mark(name, True) for name in names], 0.0)
    assert (await occupancy.sweep(names, 0, 1.0))[1] == []
    gone = tag_of(names[0])
    admin(redis).delete(key(redis, gone, f"here:{TOPIC}"))
    _, lost = await occupancy.sweep(names, 0, 1.0)
    assert lost == [name for name in names if tag_of(name) == gone]


async def test_what_is_due_without_a_record_is_dropped(redis: RedisState) -> None:
    occupancy, tag = redis.occupancy(USER), tag_of("ada")
    await occupancy.mark("a", [Mark("ada", True)], 0.0)
    admin(redis).delete(key(redis, tag, f"here:{USER}"))
    assert await occupancy.claim(["ada"], 1.0) == []
    assert not admin(redis).exists(key(redis, tag, f"due:{USER}"))


async def test_who_left_long_ago_is_forgotten_some_with_each_sweep(
    redis: RedisState,
) -> None:
    occupancy = redis.occupancy(USER)
    for is_here in (True, False):
        await occupancy.mark("a", [Mark("ada", is_here)], 0.0)
    seen = key(redis, tag_of("ada"), f"seen:{USER}")
    admin(redis).zincrby(seen, -SEEN * 1000, "ada")
    await occupancy.sweep((), 0, 1.0)
    assert (await occupancy.look(["ada"], 0.0))[0].at is None


async def test_a_sweep_that_ran_twice_gives_no_id_to_two_changes(
    redis: RedisState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is lost, so the same call is made again, and claims other names."""
    occupancy, tag = redis.occupancy(USER), tag_of("0")
    names = [name for name in map(str, range(1000)) if tag_of(name) == tag][:20]
    await occupancy.mark("a", [Mark(name, True) for name in names], 0.0)
    run, args = redis._store.run, (tag, "claim", occupancy._keys, *occupancy._times)
    ids = set()
    for _ in range(2):
        _, *flat = await run(*args, 1000, 10, "the same id")
        ids.update(flat[1::4])
    assert len(ids) == 20


async def test_a_mark_that_comes_while_its_node_is_removed_is_removed_next_time(
    redis: RedisState,
) -> None:
    occupancy, tag = redis.occupancy(USER), tag_of("0")
    names = [n for n in map(str, range(40_000)) if tag_of(n) == tag][: 2 * SCANNED]
    await occupancy.mark("a", [Mark(name, True) for name in names], 0.0)

    async def page(cursor: bytes) -> bytes:
        return await occupancy._run(tag, "vacate", "a", cursor, SCANNED)

    cursor = await page(b"0")
    assert cursor != b"0"
    await occupancy.mark("a", [Mark(name, True) for name in names], 0.0)
    while cursor != b"0":
        cursor = await page(cursor)
    await redis.reap()
    assert not any(seen.is_here for seen in await occupancy.look(names, 0.0))


async def test_a_node_that_has_no_names_is_not_looked_for(redis: RedisState) -> None:
    occupancy = redis.occupancy(USER)
    await occupancy.mark("a", [Mark("ada", True)], 0.0)
    for _ in range(2):
        assert await occupancy._run(tag_of("ada"), "vacate", "b", b"0", 1) == b"0"
    assert (await occupancy.look(["ada"], 0.0))[0].is_here


async def test_a_change_that_is_told_again_happened_when_it_did(
    redis: RedisState,
) -> None:
    occupancy = redis.occupancy(USER)
    await occupancy.mark("a", [Mark("ada", True)], 0.0)
    (first,) = await occupancy.claim(["ada"], 0.0)
    await asyncio.sleep(0.01)
    await occupancy.mark("a", [Mark("ada", False)], 0.0)
    assert await occupancy.claim(["ada"], 1.0) == [first]


async def test_what_nobody_tells_for_a_day_is_not_told(redis: RedisState) -> None:
    occupancy, tag = redis.occupancy(USER), tag_of("ada")
    await occupancy.mark("a", [Mark("ada", True)], 0.0)
    admin(redis).zincrby(key(redis, tag, f"due:{USER}"), -KEPT * 1000 - 1, "ada")
    assert await occupancy.sweep(["ada"], 0, 1.0) == ([], [])
    assert await occupancy.claim(["ada"], 1.0) == []
    assert await occupancy.mark("a", [Mark("ada", False)], 0.0) == [0.0]
