"""The state of a project that runs as several processes: in Redis, where each step is a Lua script.

All keys begin with the prefix, and all expire. A Redis that has lost some steps is treated as empty,
whatever else it has kept: see ``lua/names.lua``. Scripts build key names, so this works with one
Redis server (or a primary behind sentinels), not with a cluster.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from itertools import chain
from typing import Any

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..exceptions import StateError, StateRefused, StateTimeout
from .base import (
    NOWHERE,
    PAGE,
    PAGE_BYTES,
    About,
    Entries,
    Item,
    Kept,
    Position,
    State,
    history_expiry,
    new_epoch,
)
from .ledger import Ledger

#: most calls at the same time
CONNECTIONS = 32
#: most groups or topics in one call of a script: all other calls wait for it
CHUNK = 500
#: most broadcasts in one call, and their bytes
ITEMS = 100
ITEM_BYTES = 1024 * 1024
#: least seconds for which Redis remembers a generation
GENERATION = 2 * history_expiry(0)

#: script -> the shared parts that it needs
PARTS = {
    **dict.fromkeys(("change", "bury", "entries", "positions"), ("group",)),
    **dict.fromkeys(("append", "since", "many"), ("kept",)),
}
#: scripts that write, whose steps Redis counts
WRITERS = frozenset(
    {"beat", "bury", "count", "change", "append", "open", "reset", "own"}
)
#: errors of a server that cannot serve any call at the moment
AWAY = (
    ReadOnlyError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ConnectionError,
    TimeoutError,
    OSError,
)
#: the same as text: codes that redis-py has no class for, or that Redis 6 wraps into the error of
#: a script
AWAY_CODES = re.compile(
    r"(?:^|[\s-])(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|NOREPLICAS|OOM|BUSY|TRYAGAIN"
    r"|MOVED|ASK|UNBLOCKED|NOMASTERLINK) "
)

#: command that scripts call -> arguments after the key, to try it with
NEEDED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("GET", "DEL", "EXISTS", "INCR", "PTTL", "HGETALL", "HLEN", "SCARD"), ()
    ),
    **dict.fromkeys(("HDEL", "HMGET", "SADD", "SREM", "ZSCORE", "ZREM"), ("a",)),
    **dict.fromkeys(("HSET", "HSETNX"), ("a", "1")),
    "SET": ("1", "PX", 1000),
    "PEXPIRE": (1000,),
    "SPOP": (1,),
    "ZADD": (1, "a"),
    "ZRANGEBYSCORE": ("-inf", 1, "LIMIT", 0, 1),
    "XADD": ("MAXLEN", "=", 9, "1-0", "a", "b"),
    "XRANGE": ("-", "+", "COUNT", 1),
    "XDEL": ("1-0",),
    "XLEN": (),
    "TIME": (),
}
TRY = """
local args = {KEYS[1], unpack(ARGV, 2)}
local said = redis.pcall(ARGV[1], unpack(ARGV[1] == 'TIME' and {} or args))
redis.pcall('DEL', KEYS[1])
return type(said) == 'table' and said.err or ''
"""


@cache
def _lua(name: str) -> str:
    parts = ["names", *PARTS.get(name, ()), name, "answer"]
    lua = files(__package__) / "lua"
    return "".join((lua / f"{part}.lua").read_text() for part in parts)


def _is_away(error: Exception) -> bool:
    """Return True if `error` means that the server cannot serve any call at the moment."""
    return isinstance(error, AWAY) or AWAY_CODES.search(str(error)) is not None


class RedisState(State):
    """A state in the Redis server that `pool` connects to; the clock is that of the server."""

    def __init__(
        self, pool: ConnectionPool, prefix: str = "phx:", lease: float = 30.0
    ) -> None:
        self.lease = lease
        self._prefix = prefix
        # no retries by redis-py: only this class knows which calls may be repeated
        pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
        self._redis = Redis(connection_pool=pool)
        # wait here: a pool of redis-py raises an error when all its connections are in use
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._scripts: dict[str, Any] = {}
        self._ledger = Ledger(self.expiry)
        # free slots, where Redis remembers the result of an append; an append that is done leaves
        # its slot to the next one
        self._slots: list[str] = []

    async def _run(self, name: str, *args: Any, known_for: float = GENERATION) -> Any:
        """Run a script that may run twice. Raises StateError."""
        return await self._tried(lambda again: self._call(name, args, known_for))

    async def _call(self, name: str, args: Iterable[Any], known_for: float) -> Any:
        ledger, writes = self._ledger, "1" if name in WRITERS else ""
        steps = ledger.steps
        ours = ledger.author, steps, ledger.generation, secrets.token_hex(2)
        rest = _ms(known_for), self._expiry, writes
        args = [*args, *ours, *rest]
        found = await self._script(name)(keys=[self._prefix], args=args)
        generation, count, answer = found
        ledger.note(generation.decode(), count)
        return answer

    async def _tried(self, call: Callable[[bool], Awaitable[Any]]) -> Any:
        """Run ``call(False)``; if the server is away, close idle connections and run ``call(True)``.

        A connection of the pool may have died long ago, or lead to a server that is no longer the
        primary. Raises StateError.
        """
        async with self._free:
            try:
                try:
                    return await call(False)
                except (RedisError, OSError) as error:
                    if not _is_away(error):
                        raise
                    await self._let_go()
                    return await call(True)
            except (RedisError, OSError) as error:
                said = f"{type(error).__name__}: {error}"
                if _is_away(error):
                    await self._let_go()
                raise _kind(error)(f"a call to Redis failed: {said}") from error

    async def _let_go(self) -> None:
        """Close the idle connections: new ones may lead to another server."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    def _script(self, name: str) -> Any:
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(_lua(name))
        return self._scripts[name]

    @property
    def _expiry(self) -> int:
        return _ms(self.expiry)

    @property
    def _linger(self) -> int:
        return _ms(self.linger)

    async def lost(self) -> None:
        await self._run("lost")

    # ------------------------------------------------------------------- nodes

    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        told = msgspec.json.encode(about)
        rest = _ms(self.silence), self._expiry, "1" if first else ""
        return bool(await self._run("beat", node, told, *rest))

    async def reap(self) -> int:
        dead = set()
        while (done := await self._run("bury", "", CHUNK, self._linger))[0]:
            dead.add(done[0])
        return len(dead)

    async def leave(self, node: str) -> None:
        while (await self._run("bury", node, CHUNK, self._linger))[1]:
            pass

    async def nodes(self) -> dict[str, dict[str, Any]]:
        found = await self._run("living", "node")
        return {
            node.decode(): msgspec.json.decode(about)
            for node, about in _pairs(found)
            if about
        }

    # ------------------------------------------------------------------ topics

    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        counted = 0
        for some in _chunks(list(counts.items())) if counts else [()]:
            args = chain.from_iterable(some)
            counted = await self._run("count", node, self._expiry, *args)
        return counted

    async def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for node, counts in _pairs(await self._run("living", "topics")):
            for topic, count in _pairs(counts):
                found.setdefault(topic.decode(), {})[node.decode()] = int(count)
        return found

    # --------------------------------------------------------------- presences

    async def change(
        self,
        group: str,
        node: str,
        puts: Entries,
        drops: Iterable[str],
        *,
        is_last: bool = False,
    ) -> tuple[Position, Position]:
        how = "last" if is_last else "change"
        epoch, first, now, n = await self._change(group, node, how, puts, drops)
        return _position(epoch, first), _position(now, n)

    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        return _position(*(await self._change(group, node, "replace", entries, ()))[2:])

    async def _change(
        self, group: str, node: str, how: str, puts: Entries, drops: Iterable[str]
    ) -> Any:
        refs, times = list(drops), (self._expiry, self._linger)
        args = chain([group, node, new_epoch(), *times, how, len(refs)], refs)
        return await self._run("change", *args, *chain.from_iterable(puts.items()))

    async def own(self, node: str, groups: Sequence[str]) -> None:
        for some in _chunks(groups):
            await self._run("own", node, self._expiry, *some)

    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        epoch, n, found = await self._run("entries", group)
        entries = {r.decode(): e.partition(b"\n")[2] for r, e in _pairs(found)}
        return _position(epoch, n), entries

    async def positions(self, groups: Sequence[str]) -> list[Position]:
        found: list[Position] = []
        for some in _chunks(groups):
            pairs = await self._run("positions", self._expiry, self._linger, *some)
            found += [_position(*pair) for pair in pairs]
        return found

    # ----------------------------------------------------------------- history

    async def append(self, items: Sequence[Item]) -> list[Position]:
        found: list[Position] = []
        for some in _bundles(items):
            found += await self._append(some)
        return found

    async def _append(self, items: Sequence[Item]) -> list[Position]:
        """Keep several items in one step, which is done as a whole or not at all."""
        slot = self._slots.pop() if self._slots else secrets.token_hex(8)
        id, expiry = secrets.token_hex(8), history_expiry(max(i.ttl for i in items))
        each = list(chain.from_iterable(map(_append_args, items)))

        async def keep(again: bool) -> Any:
            # if the first try has already been done, Redis knows that by the id
            args = [slot, id, "1" if again else "", *each]
            return await self._call("append", args, 2 * expiry)

        try:
            flat = await self._tried(keep)
        finally:
            self._slots.append(slot)
        return [_position(*pair) for pair in _pairs(flat)]

    async def since(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        partial: bool = False,
        limit: int | None = None,
    ) -> tuple[Position, list[Kept]]:
        most = "" if limit is None else limit
        args = topic, n, _ms(ttl), "1" if partial else "", most, PAGE_BYTES, PAGE
        epoch, last, entries = await self._run("since", *args)
        return _position(epoch, last), [_kept(*entry) for entry in entries]

    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        epoch, last, count = await self._run("many", topic, _ms(ttl))
        return _position(epoch, last), int(count)

    async def open(self, topic: str, ttl: float) -> Position:
        expiry = history_expiry(ttl)
        args = topic, new_epoch(), _ms(expiry), self._linger
        return _position(*await self._run("open", *args, known_for=2 * expiry))

    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        found: list[Position] = []
        for some in _chunks(list(topics.items())):
            args = ((topic, _ms(history_expiry(ttl))) for topic, ttl in some)
            pairs = await self._run("heads", self._linger, *chain.from_iterable(args))
            found += [_position(*pair) for pair in pairs]
        return found

    async def reset(self, topic: str) -> None:
        await self._run("reset", topic)

    # -------------------------------------------------------------- for the doctor

    async def lacks(self) -> dict[str, str]:
        """Try each command that scripts use, on a key of its own. Raises StateError."""
        script, found = self._redis.register_script(TRY), dict[str, str]()
        for command, args in NEEDED.items():
            key = f"{self._prefix}doctor:{command}"
            call = partial(script, keys=[key], args=[command, *args])
            try:
                said = await self._tried(lambda again: call())
            except StateRefused as error:
                return {"EVALSHA": str(error)}
            if said:
                found[command] = said.decode()
        return found

    async def eviction_policy(self) -> str | None:
        async def ask(again: bool) -> Any:
            return await self._redis.config_get("maxmemory-policy")

        found: dict[str, str] = await self._tried(ask)
        return found.get("maxmemory-policy")

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)
        # a pool with sentinels does not close its connections to them
        manager = getattr(self._redis.connection_pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager else ():
            await sentinel.aclose(close_connection_pool=True)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _chunks(sequence: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (sequence[i : i + CHUNK] for i in range(0, len(sequence), CHUNK))


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2])


def _position(epoch: bytes | None, n: Any) -> Position:
    return NOWHERE if epoch is None else Position(epoch.decode(), int(n or 0))


def _kept(n: bytes, id: bytes, event: bytes, payload: bytes, sender: bytes) -> Kept:
    return Kept(int(n), id.decode(), event.decode(), payload, sender.decode() or None)


def _append_args(item: Item) -> tuple[Any, ...]:
    bytes, most = item.bytes, item.max_bytes
    # an item that is too large is not kept, it only takes its position: its payload is not sent
    payload = item.payload if bytes <= most else b""
    what = item.topic, item.id, item.event, payload, item.sender or "", bytes
    rest = _ms(history_expiry(item.ttl)), new_epoch()
    return *what, item.size, _ms(item.ttl), most, *rest


def _bundles(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Split `items` into lists that are each kept in one step."""
    bundle: list[Item] = []
    size = 0
    for item in items:
        bundle.append(item)
        size += item.bytes
        if len(bundle) >= ITEMS or size >= ITEM_BYTES:
            yield bundle
            bundle, size = [], 0
    if bundle:
        yield bundle


def _kind(error: Exception) -> type[StateError]:
    if isinstance(error, TimeoutError):
        return StateTimeout
    is_refused = isinstance(error, ResponseError) and not _is_away(error)
    return StateRefused if is_refused else StateError
