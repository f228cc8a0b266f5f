"""Replica: what this process knows of the presences of one topic."""

from __future__ import annotations

from typing import NamedTuple

from ..state import Position
from .entries import Diff, Entries, Roster

#: hints that may wait for one that is missing
PATIENCE = 100


class Hint(NamedTuple):
    """A change that some node made: it took the topic from one position to another."""

    before: Position
    after: Position
    diff: Diff


class Replica:
    """Entries, and how far they are known without a gap.

    Hints are applied in whatever order they come: a ref is put once and dropped once. Those
    that came before their time are kept, so that an older reading of the state takes nothing
    back. A gap that stays is what a look at the state tells.
    """

    def __init__(self) -> None:
        self.roster = Roster()
        #: None until the state was read for the first time
        self.position: Position | None = None
        self._early: list[Hint] = []

    @property
    def entries(self) -> Entries:
        return self.roster.entries

    @property
    def is_lost(self) -> bool:
        """Whether so much came early that a gap will not be closed by what is on its way."""
        return len(self._early) > PATIENCE

    def apply(self, hint: Hint) -> Diff:
        """Take `hint`; returns what of it is news."""
        if self.position is None:
            # who is told of this gets the state later, on top of which it will be put
            self._early.append(hint)
            self.roster.change(hint.diff)
            return hint.diff
        if hint.before != self.position:
            if self._is_old(hint):
                return Diff()
            self._early.append(hint)
        news = self._apply(hint.diff)
        if hint.before == self.position:
            self.position = hint.after
            self._catch_up()
        return news

    def apply_unseen(self, diff: Diff) -> Diff:
        """Take what the state has not taken; the next reading sets it right."""
        return self._apply(diff)

    def read(self, position: Position, entries: Entries) -> Diff:
        """Take what the state has; returns how that differs from what was told."""
        if self._is_behind(position):
            return Diff()
        is_first = self.position is None
        target = Roster(entries.values())
        early = [h for h in self._early if _is_after(h, position)]
        self.position, self._early = position, early
        for hint in sorted(early, key=lambda h: h.before.n):
            target.change(hint.diff)
        news = Diff.between(self.entries, target.entries)
        self.roster = target
        self._catch_up()
        # who joins is in the state that is pushed now
        return Diff((), news.leaves.values()) if is_first else news

    def has_come_to(self, position: Position) -> bool:
        """Whether nothing is missing up to `position`, and nothing came of a store that is lost."""
        at = self.position
        if at is None or at.epoch != position.epoch or at.n < position.n:
            return False
        return all(hint.after.epoch == at.epoch for hint in self._early)

    def _is_old(self, hint: Hint) -> bool:
        at = self.position
        return at is not None and hint.after.epoch == at.epoch and hint.after.n <= at.n

    def _is_behind(self, position: Position) -> bool:
        at = self.position
        return at is not None and at.epoch == position.epoch and position.n < at.n

    def _apply(self, diff: Diff) -> Diff:
        gone = {ref for hint in self._early for ref in hint.diff.leaves}
        joins = [
            entry
            for ref, entry in diff.joins.items()
            if ref not in self.entries and ref not in gone
        ]
        leaves = [entry for ref, entry in diff.leaves.items() if ref in self.entries]
        news = Diff(joins, leaves)
        self.roster.change(news)
        return news

    def _catch_up(self) -> None:
        """Move on over the hints that came early, as far as there is no gap."""
        while following := [h for h in self._early if h.before == self.position]:
            self.position = following[0].after
            self._early.remove(following[0])


def _is_after(hint: Hint, position: Position) -> bool:
    return hint.after.epoch == position.epoch and hint.after.n > position.n
