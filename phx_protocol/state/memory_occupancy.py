"""The occupancy of a project that runs as one process."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from .occupancy import KEPT, Change, Mark, Occupancy, Seen, seen_for

#: so many names that left are remembered, and older ones are forgotten
MOST_SEEN = 100_000


@dataclasses.dataclass
class Record:
    """One name: the nodes that have it, and whether the last signal said that it is here."""

    was_told: bool
    since: float  # when it came, or left
    delay: float = 0.0
    nodes: set[str] = dataclasses.field(default_factory=set)
    claimed: Change | None = None
    claimed_until: float = 0.0

    @property
    def due(self) -> float | None:
        """When the next change is to be claimed, in seconds of the epoch; None for never."""
        if self.claimed is not None:
            return self.claimed_until
        if bool(self.nodes) == self.was_told:
            return None
        return self.since + (0.0 if self.nodes else self.delay)


class MemoryOccupancy(Occupancy):
    """An occupancy in memory, shared by the event loops of a process."""

    def __init__(self, kind: str, clock: Callable[[], float] = time.time) -> None:
        self._lasts = seen_for(kind)
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._seen: dict[str, float] = {}  # the latest last

    async def mark(
        self, node: str, marks: Sequence[Mark], delay: float
    ) -> list[float | None]:
        with self._lock:
            return [self._mark(node, mark, delay) for mark in marks]

    def _mark(self, node: str, mark: Mark, delay: float) -> float | None:
        now, known = self._clock(), self._records.get(mark.name)
        was_told = mark.was_told and mark.name not in self._seen
        record = known or Record(was_told, now)
        record.delay, was_here = delay, bool(record.nodes)
        (record.nodes.add if mark.is_here else record.nodes.discard)(node)
        has_left = known is None and was_told and not mark.is_here
        self._moved(mark.name, record, was_here or has_left)
        return self._note(mark.name, record)

    def _moved(self, name: str, record: Record, was_here: bool) -> None:
        """Note when a name has come, or left."""
        if bool(record.nodes) != was_here:
            record.since = self._clock()
            if was_here:
                self._see(name, record.since)

    def _see(self, name: str, now: float) -> None:
        self._seen.pop(name, None)
        self._seen[name] = now
        oldest = next(iter(self._seen))
        if len(self._seen) > MOST_SEEN or self._seen[oldest] < now - self._lasts:
            del self._seen[oldest]

    def _note(self, name: str, record: Record) -> float | None:
        """Keep a record, or forget it if it says nothing. Return the seconds until it is due."""
        if record.nodes or record.was_told or record.claimed:
            self._records[name] = record
        else:
            self._records.pop(name, None)
        if record.claimed is not None or record.due is None:
            return None
        return max(0.0, record.due - self._clock())

    async def look(self, names: Sequence[str], delay: float) -> list[Seen]:
        with self._lock:
            now = self._clock()
            return [self._look(name, delay, now) for name in names]

    def _look(self, name: str, delay: float, now: float) -> Seen:
        record, at = self._records.get(name), self._seen.get(name)
        if record is not None and record.nodes:
            return Seen(True, now)
        return Seen(at is not None and at > now - delay, at)

    async def claim(self, names: Collection[str], seconds: float) -> list[Change]:
        with self._lock:
            return self._claim(names, len(names), seconds)

    def _claim(self, names: Iterable[str], most: int, seconds: float) -> list[Change]:
        now, found = self._clock(), list[Change]()
        for name in list(names):
            record = self._records.get(name)
            if record is None or record.due is None or record.due > now:
                continue
            if len(found) >= most:
                break
            if record.claimed is None:
                id, is_here = secrets.token_hex(8), bool(record.nodes)
                record.claimed = Change(name, id, is_here, record.since)
            record.claimed_until = now + seconds
            found.append(record.claimed)
        return found

    async def sweep(
        self, names: Collection[str], most: int, seconds: float
    ) -> tuple[list[Change], list[str]]:
        with self._lock:
            lost = [name for name in names if name not in self._records]
            self._give_up()
            return self._claim(self._records, most, seconds), lost

    def _give_up(self) -> None:
        """Forget the changes that nobody wants to tell."""
        long_ago = self._clock() - KEPT
        for name, record in list(self._records.items()):
            if record.due is not None and record.due <= long_ago:
                record.claimed, record.was_told = None, bool(record.nodes)
                self._note(name, record)

    async def hold(self, changes: Collection[Change], seconds: float) -> list[Change]:
        with self._lock:
            held = [change for change in changes if self._claimed(change)]
            for change in held:
                self._records[change.name].claimed_until = self._clock() + seconds
            return held

    def _claimed(self, change: Change) -> Record | None:
        record = self._records.get(change.name)
        return record if record is not None and record.claimed == change else None

    async def told(self, changes: Sequence[Change]) -> list[float | None]:
        with self._lock:
            return [self._tell(change) for change in changes]

    def _tell(self, change: Change) -> float | None:
        record = self._claimed(change)
        if record is None:
            return None
        record.was_told, record.claimed = change.is_here, None
        return self._note(change.name, record)

    async def vacate(self, node: str) -> None:
        self.vacate_now(node)

    def holders(self) -> set[str]:
        """Return the nodes that have names."""
        with self._lock:
            return set().union(*(record.nodes for record in self._records.values()))

    def vacate_now(self, node: str) -> None:
        with self._lock:
            of_node = [(n, r) for n, r in self._records.items() if node in r.nodes]
            for name, record in of_node:
                record.nodes.discard(node)
                self._moved(name, record, True)
                self._note(name, record)

    def lost(self) -> None:
        with self._lock:
            self._records.clear()
            self._seen.clear()
