"""The state on Redis: what its keys hold and for how long, and where Redis breaks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from phx_protocol.exceptions import StateError
from phx_protocol.state import Position
from phx_protocol.state.base import NOWHERE
from phx_protocol.state.items import ITEMS
from phx_protocol.state.redis import RedisState
from phx_protocol.state.store import LAYOUT, NODES
from tests.support import servers
from tests.support.state import (
    CALLS,
    admin,
    connected,
    end_lease,
    forget,
    ids,
    item,
    key,
    redis,
)

__all__ = ["redis"]


def kept_keys(state: RedisState) -> set[str]:
    """Return the keys that are neither the generation, nor of one author, nor gone within a minute."""
    some = ("author:", "done:", "recent:", "generation")
    return {name for name in keys(state) if not name.startswith(some)}


def keys(state: RedisState) -> dict[str, int]:
    """All keys of `state` without prefix and generation, and the milliseconds until they expire."""
    return {short: admin(state).pttl(name) for name, short in whole_keys(state).items()}


def whole_keys(state: RedisState) -> dict[str, str]:
    """All keys of `state`, and what follows the generation in them."""
    found = {}
    for name in map(bytes.decode, admin(state).scan_iter(f"{state._prefix}*")):
        rest = name.removeprefix(f"{state._prefix}{LAYOUT}:").partition("}")[2]
        found[name] = rest.partition(":")[2] or rest
    return found


async def test_redis_is_not_asked_for_more_than_a_page(redis: RedisState) -> None:
    many = [item(f"{i}", payload=2**18, size=99) for i in range(40)]
    await redis.append([one._replace(max_bytes=2**30) for one in many])
    before = output(redis)
    assert len((await redis.since("topic", 0, 60))[1]) == 1
    assert (await redis.since("topic", 0, 60, limit=2**20))[1] == []
    assert (await redis.kept("topic", 60))[1] == 40
    after = output(redis)
    assert after - before < 2 * 2**18


def output(state: RedisState) -> int:
    """The bytes that Redis has sent."""
    return int(admin(state).info("stats")["total_net_output_bytes"])


# ------------------------------------------------------------------------- keys of Redis


async def test_every_key_expires_whatever_was_called_last(redis: RedisState) -> None:
    for called, call in CALLS.items():
        await call(redis)
        for name, ms in keys(redis).items():
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
    for whole in whole_keys(redis):
        admin(redis).pexpire(whole, 10_000)
    await redis.beat("a1", {})
    await redis.positions(["g"], "a1")
    await redis.open("t", 60)
    await redis.change("g", "a1", {}, ["never"])
    await redis.heads({"t": 60})
    soon = {name for name, ms in keys(redis).items() if ms <= 10_000}
    # nobody needs the latest steps of a group that does not change, and a tag that has forgotten
    # the generation learns it from the next caller
    assert soon - {"generation"} == {"recent:g"}
    of_the_store = f"{redis._prefix}{LAYOUT}:{{{NODES}}}generation"
    assert admin(redis).pttl(of_the_store) > 10_000


async def test_nodes_leave_only_positions_behind(redis: RedisState) -> None:
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
    assert kept_keys(redis) == {"position:g", "position:h", "head:t"}
    await redis.reset("t")
    assert kept_keys(redis) == {"position:g", "position:h"}


@pytest.mark.parametrize("begin", ["open", "append"])
async def test_a_history_without_its_position_begins_a_new_epoch(
    redis: RedisState, begin: str
) -> None:
    before = await redis.append([item("1", "t"), item("2", "t")])
    admin(redis).delete(key(redis, "head:t"))
    assert await redis.since("t", 0, 60, partial=True) == (NOWHERE, [])
    assert "history:t" in keys(redis)
    await CALLS[begin](redis)
    position, kept = await redis.since("t", 0, 60)
    assert position.epoch != before[0].epoch
    # nothing of the old one is left
    assert admin(redis).xlen(key(redis, "history:t")) == len(kept)
    assert await redis.open("t", 60) == position


async def test_redis_holds_nothing_that_is_older_than_its_ttl(
    redis: RedisState,
) -> None:
    await redis.append([item("1", "t", ttl=0.2)])
    await asyncio.sleep(0.1)
    await redis.append([item("2", "t", ttl=0.2)])
    await asyncio.sleep(0.15)
    await redis.append([item("3", "t", ttl=0.2)])
    assert admin(redis).xlen(key(redis, "history:t")) == 2


async def test_a_clock_of_redis_that_goes_back_changes_no_order(
    redis: RedisState,
) -> None:
    await redis.append([item("1", "t")])
    # as if that had been an hour from now
    later = int((time.time() + 3600) * 1000)
    admin(redis).hset(key(redis, "head:t"), "ms", later)
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
    """Stands in front of Redis. It breaks at the next script when a test wants it."""

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
async def behind(proxy: Proxy, redis_url: str) -> AsyncIterator[RedisState]:
    """A state whose Redis is behind the proxy, and all of its scripts are there."""
    state = connected(proxy.url)
    for call in CALLS.values():
        await call(state)
    yield state
    # not through the proxy: it is in this event loop, which that would block
    forget(connected(redis_url, state._prefix))
    await state.close()


async def test_an_append_is_kept_once_when_its_answer_is_lost(
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


async def test_an_append_is_kept_once_when_its_first_try_arrives_last(
    redis: RedisState,
) -> None:
    """A line that is given up may still deliver, after the next one did."""
    await redis.append([item("1")])
    call, late = redis._client.eval, list[Any]()

    async def delayed(*args: Any) -> Any:
        redis._client.eval = call  # type: ignore[method-assign]
        late.extend(args)
        raise ConnectionError("on its way")

    redis._client.eval = delayed  # type: ignore[method-assign]
    await redis.append([item("2")])
    await redis.append([item("3")])
    await call(*late)
    assert ids(await redis.since("topic", 0, 60)) == ["1", "2", "3"]


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


async def test_a_step_is_done_once_when_its_answer_is_lost(
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
    behind._client._server.patience = 0.1
    await behind.close()
    proxy.break_down(silent=True)
    proxy.break_down(silent=True)
    began = time.monotonic()
    with pytest.raises(StateError):
        await CALLS[name](behind)
    assert 0.2 <= time.monotonic() - began < 2
    await CALLS[name](behind)


@pytest.mark.parametrize("name", ["since", "append"])
async def test_a_cancelled_call_does_not_leave_its_answer_to_the_next(
    proxy: Proxy, behind: RedisState, name: str
) -> None:
    behind._client._server.patience = 0.5
    await behind.close()
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


async def test_a_connection_that_died_while_it_was_idle_is_no_error(
    redis_url: str, redis: RedisState
) -> None:
    await asyncio.gather(*(redis.open(f"t{i}", 60) for i in range(20)))
    # this loop does not run meanwhile: it cannot know of it
    with Redis.from_url(redis_url) as other:
        (mine,) = [c for c in other.client_list() if c["name"] == redis._prefix]
        other.client_kill_filter(_id=mine["id"])
    calls = [redis.append([item(f"{i}")]) for i in range(20)]
    found = await asyncio.gather(*calls, *(redis.open("topic", 60) for _ in range(20)))
    assert sorted(p.n for (p,) in found[:20]) == list(range(1, 21))


async def test_scripts_that_redis_forgot_are_loaded_again(redis: RedisState) -> None:
    for _ in range(2):
        for call in CALLS.values():
            admin(redis).script_flush()
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
    with pytest.raises(StateError):
        await state.heads({"t": 60})
    await state.close()


async def test_after_a_restart_of_redis_everything_begins_again(tmp_path: Path) -> None:
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


async def test_a_refusal_of_redis_raises_an_error(redis: RedisState) -> None:
    await refuse(redis)
    with pytest.raises(StateError):
        await redis.beat("a1", {}, first=True)
    with pytest.raises(StateError):
        await redis.append([item("1")])


async def test_the_error_has_the_text_of_redis(redis: RedisState) -> None:
    await refuse(redis)
    with pytest.raises(StateError, match="WRONGTYPE"):
        await redis.beat("a1", {}, first=True)
    with pytest.raises(StateError, match="WRONGTYPE"):
        await redis.append([item("1")])


async def refuse(redis: RedisState) -> None:
    """Make Redis refuse some scripts: their keys are something else already."""
    await redis.nodes()
    await redis.reset("another")  # whose keys are named after what there is now
    for name in ("leases", "head:topic"):
        admin(redis).set(key(redis, name), "foreign", px=60_000)


async def test_a_rate_allows_so_many_at_once_and_its_key_expires(
    redis: RedisState,
) -> None:
    assert [await redis.rate("a\n☃", 2, 600) for _ in range(2)] == [0, 0]
    for _ in range(2):
        assert 299 < await redis.rate("a\n☃", 2, 600) <= 300
    assert await redis.rate("b", 2, 600) == 0
    assert 0 < keys(redis)["rate:a\n☃"] <= 900_000
    assert await redis.rate("c", 1, 0.05) == 0
    async with asyncio.timeout(5):
        while await redis.rate("c", 1, 0.05):
            await asyncio.sleep(0.01)
