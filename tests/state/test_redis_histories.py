"""Histories in Redis: they cost little however long they are."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from phx_protocol.state.base import PAGE_BYTES
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import RedisState
from tests.support.state import admin, ids, item, redis, what

__all__ = ["redis"]


@pytest.mark.parametrize("seed", range(5))
async def test_a_history_that_is_too_large_keeps_the_latest_as_in_memory(
    redis: RedisState, seed: int
) -> None:
    random = Random(seed)
    states = redis, MemoryState()
    for most in (10**6, 9000, 3000, 10**6, 2000, 60, 1, 500):
        new = [item(f"{i}", payload=random.randrange(99)) for i in range(200)]
        new[-1] = new[-1]._replace(max_bytes=most)
        for state in states:
            await state.append(new)
        since = (state.since("topic", 0, 60, partial=True) for state in states)
        there, wanted = [await found for found in since]
        assert ids(there) == ids(wanted)
        assert (there[0].n, len(there[1])) == (wanted[0].n, len(wanted[1]))


def stream_calls(state: RedisState) -> int:
    """How many commands on streams Redis has run."""
    stats = admin(state).info("commandstats")
    return sum(s["calls"] for name, s in stats.items() if "_x" in name)


async def test_a_page_of_a_long_history_is_not_read_one_by_one(
    redis: RedisState,
) -> None:
    """It ends where its bytes or its broadcasts do."""
    memory = MemoryState()
    for payload in (10, 300, PAGE_BYTES - 100, 0):
        many = [item(f"{i}", size=10_000, payload=payload) for i in range(1200)]
        many = many[:9] if payload > 300 else many
        for state in (redis, memory):
            await state.append(many)
    kept, n = 3609, 0
    while n < kept:
        begin = stream_calls(redis)
        _, page = await redis.since("topic", n, 60)
        assert stream_calls(redis) - begin < 15
        assert page and what(page) == what((await memory.since("topic", n, 60))[1])
        n = page[-1].n
    assert (await redis.since("topic", n, 60))[1] == []


async def test_what_is_dropped_from_a_history_is_not_read_one_by_one(
    redis: RedisState,
) -> None:
    """All other calls wait for a script, and a history may be as large as a project wants."""
    many = [item(f"{i}", size=10_000) for i in range(5000)]
    await redis.append(many)
    begin = stream_calls(redis)
    await redis.append([item("large", size=10_000)._replace(max_bytes=30)])
    assert ids(await redis.since("topic", 0, 60, partial=True)) == ["large"]
    assert stream_calls(redis) - begin < 50
    await redis.append(many)
    await asyncio.sleep(0.01)
    between = stream_calls(redis)
    assert (await redis.kept("topic", 0.001))[1] == 0
    assert stream_calls(redis) - between < 50


@pytest.mark.parametrize("seed", range(5))
async def test_the_begin_of_a_rewind_is_searched_for_and_is_where_memory_has_it(
    redis: RedisState, seed: int
) -> None:
    random = Random(seed)
    memory = MemoryState()
    many = [item(f"{i}", size=3000, payload=random.randrange(99)) for i in range(4000)]
    for state in (redis, memory):
        await state.append(many)
    for _ in range(50):
        how: Any = {
            "count": random.choice([None, 1, 50, 2999, 3000, 3001, 10**6]),
            "seconds": random.choice([None, 60.0]),
            "limit": random.choice([0, 50, 3000, 10**5, 10**9]),
        }
        n = random.choice([4000, 3999, 2000, 1001, 1000, 500, 0, 4001])
        begin = stream_calls(redis)
        _, first = await redis.rewind("topic", n, 60, **how)
        assert stream_calls(redis) - begin < 18
        assert first == (await memory.rewind("topic", n, 60, **how))[1]
