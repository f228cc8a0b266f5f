"""Occupancy: which users, and which topics, have connections to any node, and who tells of a change.

What is told of a name alternates: it is here, it is not here, it is here. A change that is undone before
it is told is never told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import NamedTuple

#: what is counted, each by its name: users by their primary key as text
USER, TOPIC = KINDS = ("user", "topic")
#: seconds for which the state knows when a user was here last
SEEN = 30 * 86400.0
#: seconds for which all else is kept if no node is alive, and a change that nobody wants to tell
KEPT = 86400.0


def seen_for(kind: str) -> float:
    """Return the seconds for which it is known when a name of `kind` was here last."""
    return SEEN if kind == USER else KEPT


class Mark(NamedTuple):
    """Whether a node has connections of `name`. `was_told` says that it was told that it is here; it
    counts if the state has lost that."""

    name: str
    is_here: bool
    was_told: bool = False


class Change(NamedTuple):
    """A change that the caller of ``claim`` has to tell; `at` is when it happened, in seconds of the
    epoch. Whoever tells the same change again has the same `id`."""

    name: str
    id: str
    is_here: bool
    at: float


class Seen(NamedTuple):
    """Whether a name is here, and when it was last, in seconds of the epoch; None if that is not known."""

    is_here: bool
    at: float | None


class Occupancy(ABC):
    """The occupancy of one kind of names. Every method may raise StateError although its step was done.

    A dead node has no names: see ``State.reap``.
    """

    @abstractmethod
    async def mark(
        self, node: str, marks: Sequence[Mark], delay: float
    ) -> list[float | None]:
        """Note which names `node` has. Return in how many seconds each is to be claimed, None for never.

        That a name is here is told at once, that it is not after `delay` seconds.
        """

    @abstractmethod
    async def look(self, names: Sequence[str], delay: float) -> list[Seen]:
        """Return what is known of each name. One that left less than `delay` seconds ago is still here."""

    @abstractmethod
    async def claim(self, names: Collection[str], seconds: float) -> list[Change]:
        """Return the changes of `names` that are to be told now. Nobody else gets them for so long."""

    @abstractmethod
    async def sweep(
        self, names: Collection[str], most: int, seconds: float
    ) -> tuple[list[Change], list[str]]:
        """Claim any changes, about `most`, and keep all that is known from expiring.

        Return also those of `names`, all that a node has written, that the state has lost, as far as
        it notices.
        """

    @abstractmethod
    async def hold(self, changes: Collection[Change], seconds: float) -> list[Change]:
        """Keep claimed changes for so long from now on; return those that nobody else has told."""

    @abstractmethod
    async def told(self, changes: Sequence[Change]) -> list[float | None]:
        """Note that these were told. Return in how many seconds the next change of each is to be claimed."""

    @abstractmethod
    async def vacate(self, node: str) -> None:
        """Forget what `node` has: it is dead, or leaves."""
