"""Replica: this process's copy of the presences of one topic."""

from __future__ import annotations

from typing import NamedTuple

from ..state import Position
from .entries import Diff, Entries, Roster

#: most hints that may wait for a missing one
MAX_EARLY_HINTS = 100


class Hint(NamedTuple):
    """A change that a node made: it moved the topic from one position to another."""

    before: Position
    after: Position
    diff: Diff


class Replica:
    """The entries, and the position up to which they are known without a gap.

    Hints are applied in the order in which they arrive: each ref is put once and dropped once.
    Hints that arrive early are kept, so that reading an older version of the state does not undo
    them. A gap that remains is closed by reading the state.
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
        """True if so many hints are early that the missing one will not arrive any more.

        Those of a new epoch wait: not all nodes have written their entries again.
        """
        if len(self._early) <= MAX_EARLY_HINTS or self.position is None:
            return len(self._early) > MAX_EARLY_HINTS
        epoch = self.position.epoch
        return sum(h.after.epoch == epoch for h in self._early) > MAX_EARLY_HINTS

    def apply(self, hint: Hint) -> Diff:
        """Apply `hint`. Return the part of its diff that is new."""
        if self.position is None:
            # the client gets ``presence_state`` later and applies this diff to it
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
        """Apply a diff that the state did not accept; the next reading of the state corrects it."""
        return self._apply(diff)

    def read(self, position: Position, entries: Entries) -> Diff:
        """Replace the entries by those of the state. Return the difference, as a diff for clients."""
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
        # at the first reading the joins are in the ``presence_state`` that is pushed now
        return Diff((), news.leaves.values()) if is_first else news

    def has_come_to(self, position: Position) -> bool:
        """Return True if no hint up to `position` is missing, and none is of another epoch."""
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
        """Advance the position over the early hints, up to the next gap."""
        while following := [h for h in self._early if h.before == self.position]:
            self.position = following[0].after
            self._early.remove(following[0])


def _is_after(hint: Hint, position: Position) -> bool:
    return hint.after.epoch == position.epoch and hint.after.n > position.n
