"""The state of a project that runs as one process: plain dicts, shared by its event loops."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from .base import (
    NOWHERE,
    About,
    Entries,
    Had,
    Item,
    Kept,
    Position,
    State,
    history_expiry,
    is_waiting,
    new_epoch,
    require_few,
    waiting,
)
from .memory_histories import Topic, Total
from .memory_occupancy import MemoryOccupancy
from .occupancy import KINDS, Occupancy

#: most bytes of all histories together
MOST_BYTES = 32 * 1024 * 1024
#: so many rates, and those that are not used any more are forgotten
MOST_RATES = 10_000


class Node:
    def __init__(self) -> None:
        self.is_leased = False  # else it owns something, but has never beaten
        self.until = 0.0
        self.about: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.groups: set[str] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    def is_dead(self, now: float) -> bool:
        return self.until <= now or bool(self.loop and self.loop.is_closed())


NOBODY = Node()


class Group:
    def __init__(self) -> None:
        self.epoch = new_epoch()
        self.n = 0
        self.until = 0.0
        self.entries: dict[str, tuple[str, bytes]] = {}  # ref -> node, entry
        self.owners = Counter[str]()  # node -> number of its entries

    def drop(self, refs: Iterable[str]) -> None:
        for ref in refs:
            if (known := self.entries.pop(ref, None)) is not None:
                self.n += 1
                self.owners[known[0]] -= 1

    def put(self, node: str, entries: Entries) -> None:
        for ref, entry in entries.items():
            known = self.entries.get(ref)
            if known is None:
                self.n += 1
            else:
                self.owners[known[0]] -= 1
            self.entries[ref] = node, entry
            self.owners[node] += 1

    def of(self, node: str) -> list[str]:
        return [ref for ref, (owner, _) in self.entries.items() if owner == node]


class MemoryState(State):
    """A state in memory. A lock makes each step atomic; steps are short and await nothing."""

    def __init__(
        self, lease: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lease = lease
        self._clock = clock
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._groups: dict[str, Group] = {}
        self._topics: dict[str, Topic] = {}
        self._total = Total()
        self._rates: dict[str, float] = {}  # name -> until when its rate is used up
        self._occupancies = {kind: MemoryOccupancy(kind) for kind in KINDS}

    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        with self._lock:
            known = self._nodes.get(node, NOBODY)
            if not known.is_leased:
                if not first:
                    return False
                known = self._nodes.setdefault(node, Node())
                known.is_leased, known.loop = True, asyncio.get_running_loop()
            elif known.is_dead(self._clock()):
                return False
            known.until = self._clock() + self.silence
            known.about = dict(about)
            return True

    async def reap(self) -> int:
        with self._lock:
            now = self._clock()
            dead = [name for name, node in self._nodes.items() if node.is_dead(now)]
            for occupancy in self._occupancies.values():
                dead += occupancy.holders() - self._nodes.keys() - set(dead)
            for name in dead:
                self._bury(name)
            self._expire(now)
            return len(dead)

    def _expire(self, now: float) -> None:
        for name, topic in list(self._topics.items()):
            topic.trim(now, topic.ttl)
            if topic.until <= now:
                topic.shrink(0)
                del self._topics[name]
        for key in [k for k, group in self._groups.items() if group.until <= now]:
            if not self._groups[key].entries:
                del self._groups[key]

    async def leave(self, node: str) -> None:
        with self._lock:
            self._bury(node)

    def _bury(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        for key in node.groups if node else ():
            if group := self._groups.get(key):
                group.drop(group.of(name))
                if not group.entries:
                    group.until = self._clock() + self.linger
        for occupancy in self._occupancies.values():
            occupancy.vacate_now(name)

    def _bury_closed(self) -> None:
        """Remove nodes whose event loop is closed, such as those of a finished test."""
        nodes = self._nodes.items()
        for name in [n for n, node in nodes if node.loop and node.loop.is_closed()]:
            self._bury(name)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            return {name: dict(node.about) for name, node in self._alive()}

    def _alive(self) -> list[tuple[str, Node]]:
        now = self._clock()
        return [
            (name, node)
            for name, node in self._nodes.items()
            if not is_waiting(name) and not node.is_dead(now)
        ]

    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        with self._lock:
            if not self._nodes.get(node, NOBODY).is_leased:
                return 0
            known = self._nodes[node].counts
            known.update(counts)
            for topic in [t for t, count in counts.items() if not count]:
                del known[topic]
            return len(known)

    async def counts(self) -> dict[str, dict[str, int]]:
        with self._lock:
            found: dict[str, dict[str, int]] = {}
            for name, node in self._alive():
                for topic, count in node.counts.items():
                    found.setdefault(topic, {})[name] = count
            return found

    def occupancy(self, kind: str) -> Occupancy:
        return self._occupancies[kind]

    async def change(
        self, group: str, node: str, puts: Entries, drops: Collection[str]
    ) -> tuple[Position, Position]:
        require_few(len(puts) + len(drops))
        with self._lock:
            before = self._position(group)
            return before, self._change(group, node, puts, drops)

    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        with self._lock:
            old = self._group(group, node).of(node)
            drops = [ref for ref in old if ref not in entries]
            return self._change(group, node, entries, drops)

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
        with self._lock:
            before, changed = self._position(group), self._group(group, node)
            lacking = (node,) if puts else ("",)
            free = {
                ref: entry
                for ref, entry in entries.items()
                if changed.entries.get(ref, lacking)[0] == node
            }
            owner = self._nodes.setdefault(waiting(until), Node())
            owner.until = self._clock() + until - time.time()
            self._change(group, waiting(until), free, ())
            return before, self._change(group, node, {}, ())

    async def take(self, group: str, node: str, refs: Collection[str]) -> str | None:
        with self._lock:
            known, now = self._groups.get(group), waiting(time.time())
            entries = known.entries if known else {}
            owners = {ref: entries[ref][0] for ref in refs if ref in entries}
            mine = [ref for ref, owner in owners.items() if owner == node]
            wait = [r for r, owner in owners.items() if owner[0] == "~" and owner > now]
            if not (mine or wait):
                return None
            ref = mine[0] if mine else min(wait, key=owners.__getitem__)
            self._group(group, node)
            self._change(group, node, {ref: entries[ref][1]}, ())
            return ref

    async def end_wait(
        self, group: str, until: float, refs: Collection[str]
    ) -> tuple[Position, Position]:
        require_few(len(refs))
        owner = waiting(until)
        with self._lock:
            before = self._position(group)
            entries = self._group(group, owner).entries
            wait = [ref for ref in refs if entries.get(ref, ("",))[0] == owner]
            return before, self._change(group, owner, {}, wait)

    def _change(
        self, group: str, node: str, puts: Entries, drops: Iterable[str]
    ) -> Position:
        changed = self._group(group, node)
        changed.drop(drops)
        changed.put(node, puts)
        if not changed.owners[node]:
            owner = self._nodes[node]
            owner.groups.discard(group)
            if not (owner.is_leased or owner.groups):
                del self._nodes[node]
        changed.until = self._clock() + (
            self.expiry if changed.entries else self.linger
        )
        return Position(changed.epoch, changed.n)

    def _group(self, group: str, node: str) -> Group:
        # a node that is not known (it never beat, or was removed) is added as a dead one, so that
        # ``reap`` removes it soon
        self._nodes.setdefault(node, Node()).groups.add(group)
        return self._groups.setdefault(group, Group())

    def _position(self, group: str) -> Position:
        known = self._groups.get(group)
        return NOWHERE if known is None else Position(known.epoch, known.n)

    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        with self._lock:
            self._bury_closed()
            known = self._groups.get(group)
            found = known.entries.items() if known else ()
            return self._position(group), {ref: entry for ref, (_, entry) in found}

    async def positions(self, groups: Sequence[str], node: str = "") -> list[Position]:
        with self._lock:
            for group in groups:
                if known := self._groups.get(group):
                    lasts = self.expiry if known.entries else self.linger
                    known.until = self._clock() + lasts
            return [self._position(group) for group in groups]

    async def rate(self, name: str, times: int, seconds: float) -> float:
        with self._lock:
            now, step = self._clock(), seconds / times
            if len(self._rates) >= MOST_RATES:
                self._rates = {n: t for n, t in self._rates.items() if t > now}
            till = max(self._rates.get(name, now), now)
            wait = till + step - seconds - now
            if wait > 1e-6:
                return wait
            self._rates[name] = till + step
            return 0.0

    async def append(self, items: Sequence[Item]) -> list[Position | None]:
        with self._lock:
            return [self._append(item) for item in items]

    def _append(self, item: Item) -> Position:
        topic = self._topic(item.topic, item.ttl)
        if item.row is not None and topic.has(item.row):
            return Had(*self._where(topic))
        topic.append(item, self._clock())
        while self._total.bytes > MOST_BYTES:
            # shrink the largest, not all: a client that fills its own topics must not empty others
            largest = max(self._topics.values(), key=lambda topic: topic.bytes)
            largest.shrink(largest.bytes // 2)
        self._renew(topic, item.ttl)
        return self._where(topic)

    def _topic(self, name: str, ttl: float) -> Topic:
        topic = self._topics.get(name)
        if topic is not None and topic.until <= self._clock():
            topic.shrink(0)
        if topic is None or topic.until <= self._clock():
            topic = self._topics[name] = Topic(self._total)
        self._renew(topic, ttl)
        return topic

    def _renew(self, topic: Topic, ttl: float) -> None:
        topic.ttl = ttl
        lasts = history_expiry(ttl) if topic.n else self.linger
        topic.until = self._clock() + lasts

    async def since(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        partial: bool = False,
        limit: int | None = None,
        was_here: bool = False,
    ) -> tuple[Position, list[Kept]]:
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                return NOWHERE, []
            known.trim(self._clock(), ttl)
            return self._where(known), known.since(n, partial, limit)

    async def rewind(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        count: int | None,
        seconds: float | None,
        limit: int,
    ) -> tuple[Position, int]:
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                return NOWHERE, n
            known.trim(self._clock(), ttl)
            since = -math.inf if seconds is None else self._clock() - seconds
            return self._where(known), known.rewind(n, count, since, limit)

    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                return NOWHERE, 0
            known.trim(self._clock(), ttl)
            return self._where(known), len(known.kept)

    async def open(self, topic: str, ttl: float) -> Position:
        with self._lock:
            return self._where(self._topic(topic, ttl))

    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        with self._lock:
            return [
                (
                    self._where(self._topic(topic, ttl))
                    if topic in self._topics
                    else NOWHERE
                )
                for topic, ttl in topics.items()
            ]

    @staticmethod
    def _where(topic: Topic) -> Position:
        return Position(topic.epoch, topic.n)

    async def reset(self, topic: str) -> None:
        with self._lock:
            if topic in self._topics:
                self._topics.pop(topic).shrink(0)

    async def lost(self) -> None:
        with self._lock:
            for forgotten in (self._nodes, self._groups, self._topics):
                forgotten.clear()
            for occupancy in self._occupancies.values():
                occupancy.lost()
            self._total.bytes = 0
