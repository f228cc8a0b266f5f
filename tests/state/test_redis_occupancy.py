"""What the occupancy in Redis does beyond the model: with many names, and with those that Redis has lost."""

from __future__ import annotations

from phx_protocol.state.occupancy import SEEN, TOPIC, USER, Mark
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


async def test_topics_are_not_remembered_when_they_are_left(redis: RedisState) -> None:
    occupancy = redis.occupancy(TOPIC)
    for is_here in (True, False):
        await occupancy.mark("a", [Mark("room:1", is_here)], 0.0)
    assert not admin(redis).exists(key(redis, tag_of("room:1"), f"seen:{TOPIC}"))
