"""The state of a project that runs as several processes: in Redis, where each step is a Lua script.

All keys begin with the prefix, and all expire. A Redis that has lost some steps is treated as empty,
whatever else it has kept: see ``lua/begin.lua``. The keys of a call are all known before it, and under one
hash tag: see ``store.py``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from ..exceptions import StateError
from . import trial
from .base import (
    NOWHERE,
    STEP,
    About,
    Entries,
    Position,
    is_waiting,
    named_in,
    new_epoch,
    require_few,
    waiting,
)
from .occupancy import KINDS, Occupancy
from .redis_histories import RedisHistories
from .redis_occupancy import SETS, RedisOccupancy
from .rings import Rings, id_of
from .store import (
    LAYOUT,
    NODES,
    TAGS,
    AnyClient,
    Store,
    spread,
    tag_of,
    together,
)
from .words import CHUNK, chunks, milliseconds, pairs, position, positions

#: most groups of a dead node in one call
GRAVES = 100
#: how often a group is read or replaced from the beginning, if it changes too fast or is lost meanwhile
TRIES = 10


class RedisState(RedisHistories):
    """A state in one Redis or cluster, that of `client`; the clock is that of Redis."""

    def __init__(
        self,
        client: AnyClient,
        prefix: str = "phx:",
        lease: float = 30.0,
        server: str = "",
    ) -> None:
        self.lease, self.server = lease, server
        self._prefix = prefix
        self._client = client
        id = id_of(server)
        store = Store(self._client, prefix, self.expiry, id, self._has_moved)
        super().__init__(store)
        self._moved: Callable[[Rings], None] | None = None
        self._occupancies = {kind: RedisOccupancy(self._store, kind) for kind in KINDS}
        # nodes that had something in groups at the latest beat, for the reaping after it
        self._owners: set[bytes] | None = None

    @property
    def _expiry(self) -> int:
        return milliseconds(self.expiry)

    async def lost(self) -> None:
        await self._store.forget()

    # ------------------------------------------------------------------------- rings

    def follow(self, rings: Rings, moved: Callable[[Rings], None]) -> None:
        self._store.rings, self._moved = rings, moved

    @property
    def store(self) -> str:
        return self._store.ledger.generation

    def _has_moved(self, rings: Rings) -> None:
        if self._moved is not None:
            self._moved(rings)

    async def adopt(self, rings: Rings) -> None:
        self._store.adopt(rings)
        await self.nodes()
        await self._ask_owners()

    async def clear(self, node: str, groups: Sequence[str]) -> None:
        by_tag: dict[str, list[str]] = {}
        for group in groups:
            by_tag.setdefault(tag_of(group), []).append(group)
        await together([self._empty(t, node, some) for t, some in by_tag.items()])

    # ------------------------------------------------------------------------- nodes

    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        encoded = msgspec.json.encode(about)
        # if one of the tags has lost steps, there is no lease any more
        self._owners = await self._ask_owners()
        keys = "leases", "abouts", f"topics:{node}"
        rest = encoded, milliseconds(self.silence), self._expiry, "1" if first else ""
        began = time.monotonic()
        is_renewed = await self._store.run(NODES, "beat", keys, node, *rest)
        self.round_trip = time.monotonic() - began
        return bool(is_renewed)

    async def reap(self) -> int:
        # who owns something before who lives: a node lives before it owns
        owners, self._owners = self._owners or await self._ask_owners(), None
        args = milliseconds(self.silence), CHUNK, *owners
        dead = await self._store.run(NODES, "dead", ("leases", "abouts"), *args)
        for name in dead:
            await self.leave(name.decode())
        return len(dead)

    async def _ask_owners(self) -> set[bytes]:
        """Ask all hash tags for the nodes that have something in groups."""
        ask = self._store.run
        keys = ["owners", *(f"{set}:{kind}" for kind in KINDS for set in SETS)]
        found = await together([ask(tag, "owners", keys) for tag in TAGS])
        return set().union(*found)

    async def leave(self, node: str) -> None:
        self._owners = None
        # the node itself last: if this process dies meanwhile, another one goes on
        await together([self._bury(tag, node) for tag in TAGS])
        if not is_waiting(node):
            await together([o.vacate(node) for o in self._occupancies.values()])
        keys = "leases", "abouts", f"topics:{node}"
        await self._store.run(NODES, "remove", keys, node)

    async def _bury(self, tag: str, node: str) -> None:
        """Drop what `node` has in the groups of `tag`, in steps."""
        keys = f"groups:{node}", "owners"
        while found := await self._store.run(tag, "groups", keys, node, GRAVES):
            await self._empty(tag, node, [group.decode() for group in found])

    async def _empty(self, tag: str, node: str, groups: list[str]) -> None:
        """Drop what `node` has in `groups`, all of `tag`."""
        keys = f"groups:{node}", "owners"
        while groups:
            graves = chain.from_iterable(_grave(g, node) for g in groups[:GRAVES])
            args = node, STEP, self._linger, *groups[:GRAVES]
            done = await self._store.run(tag, "bury", [*keys, *graves], *args)
            del groups[:done]

    async def nodes(self) -> dict[str, dict[str, Any]]:
        names, abouts = await self._store.run(NODES, "living", ("leases", "abouts"))
        return {
            name.decode(): msgspec.json.decode(about)
            for name, about in zip(names, abouts)
            if about
        }

    # ------------------------------------------------------------------------ topics

    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        counted, keys = 0, ("leases", f"topics:{node}")
        for some in chunks(list(counts.items())) if counts else [()]:
            args = node, self._expiry, *chain.from_iterable(some)
            counted = await self._store.run(NODES, "count", keys, *args)
        return counted

    async def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for node in await self.nodes():
            async for page in self._pages(NODES, "HSCAN", f"topics:{node}"):
                for topic, count in pairs(page):
                    found.setdefault(topic.decode(), {})[node] = int(count)
        return found

    async def _pages(self, tag: str, command: str, key: str) -> AsyncIterator[Any]:
        """Yield pages of a hash or a set. What changes meanwhile may be missing, or be there twice."""
        cursor = b"0"
        while True:
            args = key, cursor, "COUNT", STEP
            cursor, page = await self._store.read(tag, command, *args)
            yield page
            if cursor == b"0":
                return

    def occupancy(self, kind: str) -> Occupancy:
        return self._occupancies[kind]

    # --------------------------------------------------------------------- presences

    async def change(
        self, group: str, node: str, puts: Entries, drops: Collection[str]
    ) -> tuple[Position, Position]:
        require_few(len(puts) + len(drops))
        return await self._change(group, node, "any", puts, drops)

    async def _change(
        self, group: str, node: str, whose: str, puts: Entries, drops: Collection[str]
    ) -> tuple[Position, Position]:
        keys = *_grave(group, node), f"groups:{node}", "owners"
        times = self._expiry, self._linger
        args = group, node, new_epoch(), *times, whose, len(drops), *drops
        rest = chain.from_iterable(puts.items())
        found = await self._of(group, "change", keys, *args, *rest)
        epoch, first, now, n = found
        return position(epoch, first), position(now, n)

    async def _of(self, group: str, name: str, keys: Sequence[str], *args: Any) -> Any:
        """Run a script on a group. Raises StateMoved if its topic or user is on another server."""
        tag, of = tag_of(group), (named_in(group),)
        return await self._store.run(tag, name, keys, *args, of=of)

    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        for _ in range(TRIES):
            steps = [position async for position in self._replace(group, node, entries)]
            if len({position.epoch for position in steps}) == 1:
                return steps[-1]
        raise StateError(f"the group {group!r} is lost again and again")

    async def _replace(
        self, group: str, node: str, entries: Entries
    ) -> AsyncIterator[Position]:
        """Replace in steps, and yield the position after each. If the epoch changes, earlier ones are lost."""
        drops: set[str] = set()
        async for page in self._pages(tag_of(group), "SSCAN", _grave(group, node)[3]):
            drops.update(ref.decode() for ref in page)
        drops -= entries.keys()
        for puts in chunks(list(entries.items()), STEP):
            yield (await self.change(group, node, dict(puts), ()))[1]
        for some in chunks(list(drops), STEP):
            yield (await self._change(group, node, "mine", {}, some))[1]
        yield (await self.change(group, node, {}, ()))[1]

    async def wait(
        self,
        group: str,
        node: str,
        until: float,
        entries: Entries,
        *,
        puts: bool = False,
    ) -> tuple[Position, Position]:
        require_few(len(entries))
        waits = waiting(until)
        keys = [*_grave(group, node), f"groups:{node}"]
        keys += _grave(group, waits)[3], f"groups:{waits}", "owners"
        expiry = self._expiry + milliseconds(max(0.0, until - time.time()))
        args = group, node, waits, new_epoch(), expiry, "1" if puts else ""
        rest = chain.from_iterable(entries.items())
        found = await self._of(group, "wait", keys, *args, *rest)
        epoch, first, now, n = found
        return position(epoch, first), position(now, n)

    async def take(self, group: str, node: str, refs: Collection[str]) -> str | None:
        keys = *_grave(group, node), f"groups:{node}", "owners"
        args = group, node, self._expiry, *refs
        found = await self._of(group, "take", keys, *args)
        return str(found.decode()) if found else None

    async def end_wait(
        self, group: str, until: float, refs: Collection[str]
    ) -> tuple[Position, Position]:
        require_few(len(refs))
        return await self._change(group, waiting(until), "mine", {}, refs)

    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        for _ in range(TRIES):
            if (found := await self._read(group)) is not None:
                position, raw = found
                return position, {
                    ref.decode(): entry.partition(b"\n")[2]
                    for ref, entry in raw.items()
                }
        raise StateError(f"the group {group!r} changes faster than it can be read")

    async def _read(self, group: str) -> tuple[Position, dict[bytes, bytes]] | None:
        """Read a group: if it is large, in pages, and then what has changed meanwhile.

        Return None if it has changed so much that not all of that is known.
        """
        tag, (at, entries, recent, _) = tag_of(group), _grave(group, "")
        epoch, n, found = await self._of(group, "entries", (at, entries), STEP)
        if epoch is None:
            return NOWHERE, {}
        if found is not None:
            return position(epoch, n), dict(pairs(found))
        raw: dict[bytes, bytes] = {}
        async for page in self._pages(tag, "HSCAN", entries):
            raw.update(pairs(page))
        while True:
            keys = at, entries, recent
            news = await self._of(group, "news", keys, epoch, n, STEP)
            if news is None:
                return None
            n, refs, latest = news
            if not refs:
                return position(epoch, n), raw
            for ref, entry in zip(refs, latest):
                if entry is None:
                    raw.pop(ref, None)
                else:
                    raw[ref] = entry

    async def positions(self, groups: Sequence[str], node: str = "") -> list[Position]:
        async def ask(tag: str, some: list[str]) -> list[Position]:
            found: list[Position] = []
            for few in chunks(some):
                keys = [f"groups:{node}", "owners"]
                for group in few:
                    at, entries, _, refs = _grave(group, node)
                    keys += at, entries, refs
                args = node, self._expiry, self._linger, *few
                of = [named_in(group) for group in few]
                run = self._store.run(tag, "positions", keys, *args, of=of)
                found += positions(await run)
            return found

        return await spread(groups, str, ask)

    async def rate(self, name: str, times: int, seconds: float) -> float:
        args = times, milliseconds(seconds)
        wait = await self._store.run(tag_of(name), "rate", [f"rate:{name}"], *args)
        return float(wait) / 1000

    # ---------------------------------------------------------------- for the doctor

    async def lacks(self) -> dict[str, str]:
        """Return the commands that the server does not let us have, and why. Raises StateError."""
        return await trial.lacks(self._client, f"{self._prefix}{LAYOUT}:{{doctor}}")

    async def eviction_policy(self) -> str | None:
        return await trial.eviction_policy(self._client)

    async def close(self) -> None:
        await self._client.close()


def _grave(group: str, node: str) -> tuple[str, str, str, str]:
    """Return the keys of a group: its position, entries, recent steps, and the refs of `node`."""
    refs = f"refs:{len(node)}:{node}:{group}"
    return f"position:{group}", f"entries:{group}", f"recent:{group}", refs
