"""The keys of a store: under which hash tag they are, and the generation that they have in common."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from phx_protocol.exceptions import StateError, StateRefused
from phx_protocol.state.redis import RedisState
from phx_protocol.state.store import NODES, REMEMBERED, TAGS, spread, tag_of, together
from tests.support import servers
from tests.support.state import CALLS, admin, connected, item, redis

__all__ = ["redis"]


def test_names_are_spread_evenly_over_the_tags() -> None:
    found = [tag_of(f"room:{i}") for i in range(16_000)]
    assert {*found} == {*TAGS}
    assert all(800 < found.count(tag) < 1200 for tag in TAGS)


async def test_all_calls_work_where_the_keys_of_each_must_be_under_one_hash_tag(
    tmp_path: Path,
) -> None:
    with servers.redis(tmp_path, None, "--cluster-enabled", "yes") as server:
        state = connected(f"redis://127.0.0.1:{server.port}/0", "p:")
        there = admin(state)
        there.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while there.cluster("INFO")["cluster_state"] != "ok":
            await asyncio.sleep(0.05)
        for _ in range(2):
            for call in CALLS.values():
                await call(state)
        names = [name.decode() for name in there.scan_iter("*")]
        assert len({re.findall(r"\{(.*?)\}", name)[0] for name in names}) > 4
        await state.close()


async def test_every_call_says_which_keys_it_uses(redis: RedisState) -> None:
    asked: list[list[str]] = []
    run = redis._client.eval

    async def note(script: Any, keys: list[str], args: list[Any]) -> Any:
        asked.append(keys)
        return await run(script, keys, args)

    redis._client.eval = note  # type: ignore[method-assign]
    for call in CALLS.values():
        await call(redis)
    for keys in asked:
        begins = {key.partition("}")[0] for key in keys}
        assert len(begins) == 1 and begins.pop().startswith(f"{redis._prefix}2:{{")
    there = {name.decode() for name in admin(redis).scan_iter(f"{redis._prefix}*")}
    assert there <= set().union(*asked)


async def test_a_new_layout_sees_nothing_of_an_old_one(
    redis: RedisState, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.beat("a1", {}, first=True)
    await redis.append([item("1")])
    monkeypatch.setattr("phx_protocol.state.store.LAYOUT", "3")
    later = connected(redis_url, redis._prefix)
    assert await later.nodes() == {}
    assert (await later.since("topic", 0, 60))[1] == []
    await later.close()


# ------------------------------------------------------------------------- generations


async def test_processes_that_begin_together_agree_on_a_generation(
    redis_url: str, redis: RedisState
) -> None:
    others = [connected(redis_url, redis._prefix) for _ in range(5)]
    calls = (s.open(f"t{i}", 60) for i in range(20) for s in others)
    await asyncio.gather(*calls)
    assert len({s._store.ledger.generation for s in others}) == 1
    for other in others:
        await other.close()


async def test_a_loss_under_one_tag_is_a_loss_of_the_whole_store(
    redis_url: str, redis: RedisState
) -> None:
    other = connected(redis_url, redis._prefix)
    await other.beat("b2", {}, first=True)
    (position,) = await redis.append([item("1", "t")])
    tag = tag_of("t")
    count = redis._store.ledger.of(tag)
    admin(redis).delete(redis._store.key(tag, f"author:{count.author}"))
    assert await redis.heads({"t": 60}) != [position]
    assert not await other.beat("b2", {})
    assert other._store.ledger.generation == redis._store.ledger.generation
    await other.close()


async def test_a_generation_is_remembered_for_as_long_as_anything_lasts(
    redis: RedisState,
) -> None:
    def remembered(tag: str) -> float:
        at = f"{redis._store._prefix}{{{tag}}}generation"
        return float(admin(redis).pttl(at)) / 1000

    await redis.open("t", 60)
    assert remembered(NODES) <= REMEMBERED
    days = 7 * 86_400.0
    await redis.append([item("1", "t", ttl=days)])
    assert remembered(NODES) > 2 * days and remembered(tag_of("t")) > 2 * days
    # a process that keeps only short histories does not shorten that
    other = connected_again(redis)
    await other.open("t", 60)
    await other.append([item("2", "t")])
    assert remembered(NODES) > 2 * days and remembered(tag_of("t")) > 2 * days
    await other.close()


def connected_again(state: RedisState) -> RedisState:
    options = admin(state).connection_pool.connection_kwargs
    return connected(f"redis://{options['host']}:{options['port']}/0", state._prefix)


async def test_after_a_while_the_store_is_asked_for_its_generation_again(
    redis: RedisState,
) -> None:
    await redis.open("t", 60)
    at = f"{redis._store._prefix}{{{NODES}}}generation"
    admin(redis).pexpire(at, 10_000)
    redis._store._remember_at = time.monotonic()
    await redis.open("t", 60)
    assert admin(redis).pttl(at) > 10_000


async def remembered_for_a_second(state: RedisState) -> None:
    """From now on Redis forgets an author one second after his last write."""
    state._store._author_ms = 1000
    state._store.ledger._expiry = 1.0
    for id in "12345":
        await state.append([item(id, "t")])


async def test_an_author_who_only_reads_has_lost_nothing_when_redis_forgets_him(
    redis: RedisState,
) -> None:
    await remembered_for_a_second(redis)
    author = redis._store.ledger.of(tag_of("t")).author
    at = redis._store.key(tag_of("t"), f"author:{author}")
    (position,) = await redis.heads({"t": 60})
    while admin(redis).exists(at):
        assert await redis.heads({"t": 60}) == [position]
        await asyncio.sleep(0.05)
    assert await redis.heads({"t": 60}) == [position]


async def test_an_author_who_writes_again_before_redis_forgets_him_has_lost_nothing(
    redis: RedisState,
) -> None:
    await remembered_for_a_second(redis)
    author = redis._store.ledger.of(tag_of("t")).author
    at = redis._store.key(tag_of("t"), f"author:{author}")
    while admin(redis).pttl(at) > 400:
        await asyncio.sleep(0.02)
    found = [(await redis.append([item(id, "t")]))[0] for id in "678"]
    assert [position.n for position in found] == [6, 7, 8]


# ----------------------------------------------------------------- many calls as one


async def test_the_answers_of_all_tags_come_in_the_order_of_the_names() -> None:
    asked: list[str] = []

    async def ask(tag: str, some: list[str]) -> list[str]:
        asked.append(tag)
        assert {tag_of(name) for name in some} == {tag}
        return [f"of {name}" for name in some]

    names = [f"room:{i}" for i in range(100)]
    assert await spread(names, str, ask) == [f"of {name}" for name in names]
    assert sorted(asked) == sorted(TAGS)
    assert await spread([], str, ask) == []


async def test_an_error_of_one_call_is_raised_when_all_are_over() -> None:
    done: list[int] = []

    async def call(n: int) -> int:
        if n == 0:
            raise StateRefused("zero")
        await asyncio.sleep(0)
        done.append(n)
        return n

    with pytest.raises(StateError, match="zero"):
        await together([call(n) for n in range(4)])
    assert done == [1, 2, 3]
    assert await together([call(7)]) == [7]
