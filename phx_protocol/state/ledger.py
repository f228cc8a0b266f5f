"""Ledger: what one author of steps knows of the store, by which it sees that some were lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable


class Ledger:
    """The store's generation, and how many writes of this author must be in it.

    The store counts the writes of each author. Answers may come in any order, and some writes
    are done and never answered, so both the answers and the highest count are kept: the store
    has at least the greater of the two, or has lost something.
    """

    def __init__(self, expiry: float, clock: Callable[[], float] = time.time) -> None:
        self.generation = ""
        self.author = secrets.token_hex(6)
        self._answers = self._highest = 0
        #: seconds after which the store may have forgotten an author that says nothing
        self._expiry = expiry
        self._clock = clock
        self._answered_at = clock()

    @property
    def steps(self) -> int:
        """Writes that the store must have counted."""
        if self._clock() - self._answered_at > self._expiry / 2:
            self.author = secrets.token_hex(6)
            self._answers = self._highest = 0
        return max(self._answers, self._highest)

    def note(self, generation: str, count: int) -> None:
        """Take an answer; `count` is 0 when nothing was written."""
        if _born(generation) < _born(self.generation):
            return  # it was on its way when others had found out
        if generation != self.generation:
            self.generation = generation
            self._answers = self._highest = 0
        self._answers += count > 0
        self._highest = max(self._highest, count)
        self._answered_at = self._clock()


def _born(generation: str) -> int:
    return int(generation.partition(".")[0] or 0)
