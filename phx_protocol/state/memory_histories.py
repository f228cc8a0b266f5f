"""The histories of a state in memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from .base import PAGE, PAGE_BYTES, Item, Kept, Row, new_epoch


class Total:
    """The bytes that the histories of all topics keep."""

    def __init__(self) -> None:
        self.bytes = 0


class Topic:
    """The history of one topic; `now` is the time of the state."""

    def __init__(self, total: Total) -> None:
        self.total = total
        self.epoch = new_epoch()
        self.n = 0
        self.kept: deque[tuple[float, Kept]] = deque()  # each with its time
        self.at = 0.0  # that of the latest, in seconds of the epoch
        self.bytes = 0
        self.ttl = 0.0
        self.until = 0.0
        self.rows: dict[str, int] = {}  # source -> the number of the last row

    def has(self, row: Row) -> bool:
        """Return whether the row came before; note it if not."""
        if self.rows.get(row.source, 0) >= row.n:
            return True
        self.rows[row.source] = row.n
        return False

    def append(self, item: Item, now: float) -> None:
        self.n += 1
        # the wall clock may be set back
        self.at = max(self.at, time.time())
        what = item.id, item.event, item.payload, item.sender
        kept = Kept(self.n, *what, self.at)
        self.kept.append((now, kept))
        self.bytes += kept.bytes
        self.total.bytes += kept.bytes
        while len(self.kept) > item.size or self.bytes > item.max_bytes:
            self._drop()
        self.trim(now, item.ttl)

    def trim(self, now: float, ttl: float) -> None:
        while self.kept and self.kept[0][0] < now - ttl:
            self._drop()

    def _drop(self) -> None:
        size = self.kept.popleft()[1].bytes
        self.bytes -= size
        self.total.bytes -= size

    def shrink(self, to: int) -> None:
        while self.bytes > to:
            self._drop()

    def since(self, n: int, partial: bool, limit: int | None) -> list[Kept]:
        found = [kept for _, kept in self.kept if kept.n > n]
        if limit is not None and sum(kept.bytes for kept in found) > limit:
            return []
        return _page(found) if partial or len(found) == self.n - n else []

    def rewind(self, n: int, count: int | None, since: float, limit: int) -> int:
        """Return the number before the first broadcast that ``State.rewind`` is about."""
        first, size = n, 0
        for kept_at, kept in reversed(self.kept):
            if kept.n > n:
                continue
            size += kept.bytes
            if kept.n != first or n - first == count or kept_at < since or size > limit:
                break
            first -= 1
        return first


def _page(found: Sequence[Kept]) -> list[Kept]:
    page: list[Kept] = []
    size = 0
    for kept in found[:PAGE]:
        page.append(kept)
        size += kept.bytes
        if size >= PAGE_BYTES:
            break
    return page
