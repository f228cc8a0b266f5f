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

    def __init__(self, clock: Callable[[], float]) -> None:
        self.author = secrets.token_hex(6)
        self._answers = self._highest = 0
        self._clock = clock
        self._wrote_at = clock()

    @property
    def steps(self) -> int:
        """The number of writes that the store must have counted."""
        return max(self._answers, self._highest)

    @property
    def age(self) -> float:
        """Seconds since the latest write."""
        return self._clock() - self._wrote_at

    def note(self, count: int) -> None:
        """Note an answer of the store; `count` is 0 if the call wrote nothing."""
        if count:
            self._answers += 1
            self._highest = max(self._highest, count)
            self._wrote_at = self._clock()


class Ledger:
    """The generation of the store, and a count for each hash tag.

    `expiry` is the number of seconds for which the store remembers an author after each of its writes.
    """

    def __init__(self, expiry: float, clock: Callable[[], float] = time.time) -> None:
        self.generation = ""
        self._counts: dict[str, Count] = {}
        self._expiry = expiry
        self._clock = clock

    def of(self, tag: str) -> Count:
        """Return the count of `tag`: a new one, of another author, if the store may soon forget the old one.

        Note in it the answers to the calls that named its author, whenever they come.
        """
        count = self._counts.get(tag)
        if count is None or count.age > self._expiry / 2:
            count = self._counts[tag] = Count(self._clock)
        return count

    def learn(self, generation: str) -> None:
        """Note the generation of the store, unless a newer one is known: answers may come late."""
        if generation != self.generation and born(generation) >= born(self.generation):
            self.generation = generation
            self._counts.clear()


def born(generation: str) -> int:
    """Return when a generation began, in microseconds; 0 for none."""
    return int(generation.partition(".")[0] or 0)
