"""Waiting: the entries of clients that this process has lost, and that may come back."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable

from .entries import Diff, Entries, Entry


class Waiting:
    """The entries of one topic, each with the time until which its client may come back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: called when none waits any more
        self.on_none: Callable[[], None] = _nothing
        #: True if the state has lost them
        self.is_lost = False
        self._loop = loop
        self._entries: dict[str, tuple[Entry, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __contains__(self, ref: str) -> bool:
        return ref in self._entries

    @property
    def refs(self) -> set[str]:
        return set(self._entries)

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry, _ in self._entries.values()]

    def of(self, key: str) -> Entries:
        """Return those with `key`, first the one that waits longest."""
        alike = [pair for pair in self._entries.values() if pair[0].key == key]
        return {
            entry.ref: entry for entry, _ in sorted(alike, key=lambda pair: pair[1])
        }

    def add(
        self, entries: Entries, until: float, over: Callable[[Diff, float], None]
    ) -> None:
        """Let `entries` wait until then (seconds of the epoch); call `over` with the leaves of the others."""
        self._entries |= {ref: (entry, until) for ref, entry in entries.items()}
        # in an empty context: it does not belong to the client that was lost
        self._loop.call_later(
            until - time.time(), self._end, until, over, context=contextvars.Context()
        )

    def _end(self, until: float, over: Callable[[Diff, float], None]) -> None:
        left = self.leaves(until)
        for ref in left.leaves:
            del self._entries[ref]
        if left:
            over(left, until)
            self.on_none()

    def take(self, ref: str) -> None:
        """Forget one: its client has come back."""
        self._entries.pop(ref, None)

    def untils(self) -> set[float]:
        """Return the times until which some wait."""
        return {until for _, until in self._entries.values()}

    def leaves(self, until: float) -> Diff:
        """Return those that wait until then, as the leaves of a diff."""
        pairs = self._entries.values()
        return Diff((), (entry for entry, till in pairs if till == until))


def _nothing() -> None: ...
