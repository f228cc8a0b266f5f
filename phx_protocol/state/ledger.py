"""Ledger: how many writes the store must have; with fewer the store has lost some."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable


class Count:
    """The writes of this process under one hash tag, which the store counts for each author.

    Answers may come in any order, and the answer to a write may be lost. So both the number of
    answers and the highest count are kept: a store with fewer writes than the greater of the two
    has lost some.
    """

    def __init__(self, expiry: float, clock: Callable[[], float]) -> None:
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

    def note(self, count: int) -> None:
        """Note an answer of the store; `count` is 0 if the call wrote nothing."""
        self._answers += count > 0
        self._highest = max(self._highest, count)
        self._answered_at = self._clock()


class Ledger:
    """The generation of the store, and a count for each hash tag."""

    def __init__(self, expiry: float, clock: Callable[[], float] = time.time) -> None:
        self.generation = ""
        self._counts: dict[str, Count] = {}
        self._expiry = expiry
        self._clock = clock

    def of(self, tag: str) -> Count:
        """Return the count of `tag`."""
        count = self._counts.get(tag)
        if count is None:
            count = self._counts[tag] = Count(self._expiry, self._clock)
        return count

    def learn(self, generation: str) -> None:
        """Note the generation of the store, unless a newer one is known: answers may come late."""
        if generation != self.generation and born(generation) >= born(self.generation):
            self.generation = generation
            self._counts.clear()

    def note(self, tag: str, generation: str, count: int) -> None:
        """Note an answer to a call that named `generation`; `count` is 0 if it wrote nothing."""
        if generation == self.generation:
            self.of(tag).note(count)


def born(generation: str) -> int:
    """Return when a generation began, in microseconds; 0 for none."""
    return int(generation.partition(".")[0] or 0)
