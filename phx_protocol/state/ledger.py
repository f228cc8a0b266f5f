"""Ledger: how many writes the store must have; with fewer the store has lost some."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable


class Ledger:
    """The store's generation, and how many writes of this author the store must contain.

    The store counts the writes of each author. Answers may come in any order, and the answer to a
    write may be lost. So the ledger keeps both the number of answers and the highest count: a
    store with fewer writes than the greater of the two has lost some.
    """

    def __init__(self, expiry: float, clock: Callable[[], float] = time.time) -> None:
        self.generation = ""
        self.author = secrets.token_hex(6)
        self._answers = self._highest = 0
        #: seconds without a write after which the store may have forgotten an author
        self._expiry = expiry
        self._clock = clock
        self._answered_at = clock()

    @property
    def steps(self) -> int:
        """The number of writes that the store must have counted."""
        if self._clock() - self._answered_at > self._expiry / 2:
            self.author = secrets.token_hex(6)
            self._answers = self._highest = 0
        return max(self._answers, self._highest)

    def note(self, generation: str, count: int) -> None:
        """Note an answer of the store; `count` is 0 if the call wrote nothing."""
        if _born(generation) < _born(self.generation):
            return  # a late answer, from before other calls saw the new generation
        if generation != self.generation:
            self.generation = generation
            self._answers = self._highest = 0
        self._answers += count > 0
        self._highest = max(self._highest, count)
        self._answered_at = self._clock()


def _born(generation: str) -> int:
    return int(generation.partition(".")[0] or 0)
