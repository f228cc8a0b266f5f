"""State of a project that runs as several processes: in Redis, every step one Lua script.

All keys begin with the prefix, and every one expires. A Redis that was restarted is an empty one,
whatever it has kept: see ``lua/names.lua``. Scripts make up key names, so this is for one Redis
server (or a primary behind sentinels), not for a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..exceptions import StateError, StateRefused
from .base import (
    NOWHERE,
    About,
    Entries,
    Item,
    Kept,
    Position,
    State,
    history_expiry,
    new_epoch,
)

#: calls that are on their way at once
CONNECTIONS = 32
#: groups or topics in one call of a script, which nothing else can pass
CHUNK = 500


@cache
def _lua(name: str) -> str:
    lua = files(__package__) / "lua"
    return (lua / "names.lua").read_text() + (lua / f"{name}.lua").read_text()


class RedisState(State):
    """`pool` makes the connections, and its server decides what time it is."""

    def __init__(
        self, pool: ConnectionPool, prefix: str = "phx:", lease: float = 30.0
    ) -> None:
        self.lease = lease
        self._prefix = prefix
        # one more try is ours: only we know what may be done twice
        pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
        self._redis = Redis(connection_pool=pool)
        # a pool of redis-py refuses who asks for one connection too many
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._scripts: dict[str, Any] = {}

    async def _run(self, name: str, *args: Any) -> Any:
        """A script that may be run twice. Raises StateError."""
        script = self._script(name)

        async def run(again: bool) -> Any:
            return await script(keys=[self._prefix], args=args)

        return await self._tried(run)

    async def _tried(self, call: Callable[[bool], Awaitable[Any]]) -> Any:
        """`call`, told whether it is made again: a connection of the pool may have died long ago."""
        async with self._free:
            try:
                try:
                    return await call(False)
                except (ConnectionError, TimeoutError):
                    return await call(True)
            except (RedisError, OSError) as error:
                kind = StateRefused if isinstance(error, ResponseError) else StateError
                said = f"{type(error).__name__}: {error}"
                raise kind(f"Redis does not do it: {said}") from error

    def _script(self, name: str) -> Any:
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(_lua(name))
        return self._scripts[name]

    @property
    def _expiry(self) -> int:
        return _ms(self.expiry)

    # ------------------------------------------------------------------- nodes

    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        told = msgspec.json.encode(about)
        rest = _ms(self.silence), self._expiry, "1" if first else ""
        return bool(await self._run("beat", node, told, *rest))

    async def reap(self) -> int:
        dead = set()
        while (done := await self._run("bury", "", CHUNK))[0]:
            dead.add(done[0])
        return len(dead)

    async def leave(self, node: str) -> None:
        while (await self._run("bury", node, CHUNK))[1]:
            pass

    async def nodes(self) -> dict[str, dict[str, Any]]:
        found = await self._run("living", "node")
        return {
            node.decode(): msgspec.json.decode(about)
            for node, about in _pairs(found)
            if about
        }

    # ------------------------------------------------------------------ topics

    async def count(self, node: str, counts: Mapping[str, int]) -> None:
        for some in _chunks(list(counts.items())):
            await self._run("count", node, self._expiry, *chain.from_iterable(some))

    async def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for node, counts in _pairs(await self._run("living", "topics")):
            for topic, count in _pairs(counts):
                found.setdefault(topic.decode(), {})[node.decode()] = int(count)
        return found

    # --------------------------------------------------------------- presences

    async def change(
        self, group: str, node: str, puts: Entries, drops: Iterable[str]
    ) -> tuple[Position, Position]:
        epoch, first, now, n = await self._change(group, node, "change", puts, drops)
        return _position(epoch, first), _position(now, n)

    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        return _position(*(await self._change(group, node, "replace", entries, ()))[2:])

    async def _change(
        self, group: str, node: str, how: str, puts: Entries, drops: Iterable[str]
    ) -> Any:
        refs = list(drops)
        args = chain([group, node, new_epoch(), self._expiry, how, len(refs)], refs)
        return await self._run("change", *args, *chain.from_iterable(puts.items()))

    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        epoch, n, found = await self._run("entries", group)
        entries = {r.decode(): e.partition(b"\n")[2] for r, e in _pairs(found)}
        return _position(epoch, n), entries

    async def positions(self, groups: Sequence[str]) -> list[Position]:
        found: list[Position] = []
        for some in _chunks(groups):
            pairs = await self._run("positions", self._expiry, *some)
            found += [_position(*pair) for pair in pairs]
        return found

    # ----------------------------------------------------------------- history

    async def append(self, items: Sequence[Item]) -> list[Position]:
        async def keep(again: bool) -> Any:
            script = self._script("append")
            async with self._redis.pipeline(transaction=False) as pipe:
                for topic, id, event, payload, sender, size, ttl in items:
                    expiry, epoch = _ms(history_expiry(ttl)), new_epoch()
                    rest = size, _ms(ttl), expiry, epoch, "1" if again else ""
                    args = topic, id, event, payload, sender or "", *rest
                    await script(keys=[self._prefix], args=args, client=pipe)
                return await pipe.execute()

        # what the first try has done is found by its id
        return [_position(*pair) for pair in await self._tried(keep)]

    async def since(
        self, topic: str, n: int, ttl: float, *, partial: bool = False
    ) -> tuple[Position, list[Kept]]:
        args = topic, n, _ms(ttl), "1" if partial else ""
        epoch, last, entries = await self._run("since", *args)
        return _position(epoch, last), [_kept(*entry) for entry in reversed(entries)]

    async def open(self, topic: str, ttl: float) -> Position:
        args = topic, new_epoch(), _ms(history_expiry(ttl)), self._expiry
        found = await self._run("open", *args)
        return _position(*found)

    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        found: list[Position] = []
        for some in _chunks(list(topics.items())):
            args = ((topic, _ms(history_expiry(ttl))) for topic, ttl in some)
            pairs = await self._run("heads", self._expiry, *chain.from_iterable(args))
            found += [_position(*pair) for pair in pairs]
        return found

    async def reset(self, topic: str) -> None:
        await self._run("reset", topic)

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _chunks(sequence: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (sequence[i : i + CHUNK] for i in range(0, len(sequence), CHUNK))


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2])


def _position(epoch: bytes | None, n: Any) -> Position:
    return NOWHERE if epoch is None else Position(epoch.decode(), int(n or 0))


def _kept(name: bytes, fields: Sequence[bytes]) -> Kept:
    entry = dict(_pairs(fields))
    sender = entry[b"sender"].decode() or None
    n = int(name.rpartition(b"-")[2])
    return Kept(
        n, entry[b"id"].decode(), entry[b"event"].decode(), entry[b"payload"], sender
    )
