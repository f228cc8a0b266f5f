"""Helpers for tests of the state: end a lease, or let Redis forget, at once."""

from __future__ import annotations

import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import redis as redis_py

from phx_protocol.state import Item, Kept, Position, State
from phx_protocol.state.cluster_client import ClusterClient
from phx_protocol.state.factory import make_client
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import RedisState
from phx_protocol.state.store import LAYOUT, NODES, tag_of
from tests.support.spread import SpreadState, servers_of

FORGET = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
"""


@functools.cache
def admin(state: RedisState) -> Any:
    """A client of the Redis or cluster of `state`, for tests that look there or change something."""
    if isinstance(state._client, ClusterClient):
        host, port = state._client._topology._places[0]
        return redis_py.RedisCluster(host, port)
    options = state._client._server._pool.connection_kwargs
    wanted = "host", "port", "db", "username", "password"
    known = {name: options[name] for name in wanted if name in options}
    return redis_py.Redis(**known)


def everywhere(state: State, script: str, *args: str) -> list[Any]:
    """Run a script without keys on each server or primary; return what each has returned."""
    clients: list[Any] = []
    for client in map(admin, servers_of(state)):
        if isinstance(client, redis_py.RedisCluster):
            nodes = client.get_primaries()
            clients += [client.get_redis_connection(node) for node in nodes]
        else:
            clients.append(client)
    return [one.eval(script, 0, *args) for one in clients]


async def end_lease(state: State, node: str) -> None:
    """As if `node` had not beaten for too long; nobody has reaped it yet."""
    if isinstance(state, MemoryState):
        if node in state._nodes:
            state._nodes[node].until = 0.0
    elif isinstance(state, SpreadState):
        for one, name in state.names_of(node):
            await end_lease(one, name)
    else:
        assert isinstance(state, RedisState)
        admin(state).zadd(key(state, "leases"), {node: 1}, xx=True)


#: the keys that concern nodes; all others belong to the group or topic that they name
OF_NODES = ("leases", "abouts", "topics:")


def key(state: RedisState, name: str) -> str:
    """The name of a key in Redis, of no other generation. With a * it is a pattern."""
    _, _, routed = name.partition(":")
    tag = NODES if name.startswith(OF_NODES) else tag_of(routed)
    if "*" in name and tag != NODES:
        tag = "*"
    at = admin(state).get(f"{state._prefix}{LAYOUT}:{{{NODES}}}generation")
    generation = (at or b"none").decode()
    return f"{state._prefix}{LAYOUT}:{{{tag}}}{generation}:{name}"


def forget(state: State) -> None:
    """Delete all of its keys, as if Redis had lost them."""
    for one in servers_of(state):
        everywhere(one, FORGET, f"{one._prefix}*")


def item(
    id: str, topic: str = "topic", size: int = 100, ttl: float = 60.0, payload: int = 0
) -> Item:
    body = b'{"id": "%s"}%s' % (id.encode(), b" " * payload)
    return Item(topic, id, "event", msgspec.Raw(body), None, size, ttl)


def connected(
    url: str, prefix: str | None = None, lease: float = 30.0, **options: Any
) -> RedisState:
    """A state with timeouts as long as those of the tests."""
    prefix = prefix or f"{secrets.token_hex(8)}:"
    host = {"address": url, "client_name": prefix, **options}
    return RedisState(make_client(host, 5), prefix, lease)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisState]:
    state = connected(redis_url)
    yield state
    forget(state)
    await state.close()


def what(kept: list[Kept]) -> list[tuple[Any, ...]]:
    """Kept broadcasts without the time, of which each state has its own."""
    return [one[:-1] for one in kept]


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
    "positions of a node": lambda s: s.positions(["g", "never"], "a1"),
    "positions": lambda s: s.positions(["g", "h", "never"]),
    "beat again": lambda s: s.beat("a1", {}),
    "reap": lambda s: s.reap(),
    "open": lambda s: s.open("t", 60),
    "append": lambda s: s.append([item("1", "t"), item("2", "u")]),
    "append of no ttl": lambda s: s.append([item("3", "v", ttl=0)]),
    "since": lambda s: s.since("t", 0, 60),
    "rewind": lambda s: s.rewind("t", 1, 60, count=1, seconds=60, limit=100),
    "heads": lambda s: s.heads({"t": 60, "never": 60}),
    "reset": lambda s: s.reset("u"),
    "leave": lambda s: s.leave("a1"),
    "leave of an unknown node": lambda s: s.leave("c3"),
}
