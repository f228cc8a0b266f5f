"""Helpers for tests of the state: end a lease, or let Redis forget, at once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import ConnectionPool

from phx_protocol.state import Item, Position, State
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import RedisState

FORGET = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
"""


async def end_lease(state: State, node: str) -> None:
    """As if `node` had not beaten for too long; nobody has reaped it yet."""
    if isinstance(state, MemoryState):
        if node in state._nodes:
            state._nodes[node].until = 0.0
    else:
        assert isinstance(state, RedisState)
        await state._redis.zadd(await key(state, "nodes"), {node: 1}, xx=True)


async def key(state: RedisState, name: str) -> str:
    """The name of a key in Redis: of no other generation."""
    generation = await state._redis.get(f"{state._prefix}generation") or b"none"
    return f"{state._prefix}{generation.decode()}:{name}"


async def forget(state: RedisState) -> None:
    """Delete all of its keys, as if Redis had lost them."""
    await state._redis.eval(FORGET, 0, f"{state._prefix}*")


def item(
    id: str, topic: str = "topic", size: int = 100, ttl: float = 60.0, payload: int = 0
) -> Item:
    body = b'{"id": "%s"}%s' % (id.encode(), b" " * payload)
    return Item(topic, id, "event", body, None, size, ttl)


def connected(url: str, prefix: str | None = None) -> RedisState:
    """A state with timeouts as long as those of the tests."""
    prefix = prefix or f"{secrets.token_hex(8)}:"
    timeouts = {"socket_timeout": 5, "socket_connect_timeout": 5}
    pool = ConnectionPool.from_url(url, client_name=prefix, **timeouts)
    return RedisState(pool, prefix)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisState]:
    state = connected(redis_url)
    yield state
    await forget(state)
    await state.close()


def ids(found: tuple[Position, list[Any]]) -> list[str]:
    return [kept.id for kept in found[1]]


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
