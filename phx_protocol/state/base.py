"""The interface of a state, and the values that go in and out of it."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

About = Mapping[str, Any]
#: ref of a presence -> what is known of it
Entries = Mapping[str, bytes]


class Position(NamedTuple):
    """How far something has come: the `n`-th step of what began as `epoch`.

    An epoch begins with a letter and is never used twice: what was lost and began anew has
    another one.
    """

    epoch: str
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}"

    @classmethod
    def parse(cls, text: Any) -> Position | None:
        """The position that ``str`` wrote, or None for anything else."""
        if not isinstance(text, str) or len(text) > 100:
            return None
        epoch, _, n = text.rpartition("-")
        digits = n.isascii() and n.isdigit()
        return cls(epoch, int(n)) if epoch and digits else None


#: where what never began stands
NOWHERE = Position("", 0)


def is_behind(position: Position, known: Position | None) -> bool:
    """Whether the state, which is at `position`, lacks what was `known` before it was asked."""
    return known is not None and known.epoch == position.epoch and position.n < known.n


def new_epoch() -> str:
    # phoenix.js takes a frame whose ref is that of its heartbeat, a number, for the answer
    return f"e{secrets.token_hex(5)}"


class Item(NamedTuple):
    """A broadcast to be kept: `payload` is JSON, `id` is never used again."""

    topic: str
    id: str
    event: str
    payload: bytes
    sender: str | None
    #: broadcasts that the topic keeps, seconds for which it does, and bytes of them
    size: int
    ttl: float
    max_bytes: int = 4 * 1024 * 1024

    @property
    def bytes(self) -> int:
        """The size for which an item counts against `max_bytes`."""
        return len(self.payload) + len(self.event.encode())


class Kept(NamedTuple):
    """A broadcast that was kept, the `n`-th of its topic."""

    n: int
    id: str
    event: str
    payload: bytes
    sender: str | None

    @property
    def bytes(self) -> int:
        return len(self.payload) + len(self.event.encode())


#: bytes and broadcasts after which a page of a history ends
PAGE_BYTES = 256 * 1024
PAGE = 1000


class State(ABC):
    """Every method may raise StateError, and may have done its step all the same: an answer can be lost.

    A node is one event loop of one process. It lives while it beats; what it owns (its counts,
    its presences) is dropped by ``reap`` when its lease is over, whoever calls that.
    """

    #: seconds after which what a silent node owned is gone everywhere
    lease: float

    @property
    def beat_every(self) -> float:
        """Seconds between two beats of a node."""
        return self.lease / 4

    @property
    def silence(self) -> float:
        """Seconds of silence after which a node is dead: the others look a beat later."""
        return self.lease - self.beat_every

    @property
    def expiry(self) -> float:
        """Seconds after which what nobody cares for is gone: all nodes may have died at once."""
        return max(10 * self.lease, 60.0)

    @property
    def linger(self) -> float:
        """Seconds after which the place of what is empty is gone when nobody cares for it."""
        return self.lease

    async def lost(self) -> None:
        """Steps that were done are not there: forget everything, which nodes see as a loss."""

    async def lacks(self) -> dict[str, str]:
        """Try the commands that are needed; returns those that fail: command -> error. Raises StateError."""
        return {}

    async def eviction_policy(self) -> str | None:
        """Ask for the server's eviction policy; None where there is none. Raises StateError."""
        return None

    # ------------------------------------------------------------------- nodes

    @abstractmethod
    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        """Renew the lease of `node`. False: it is over, or was lost; take another name.

        `about` is JSON that ``nodes`` tells. With `first` a lease is made.
        """

    @abstractmethod
    async def reap(self) -> int:
        """Drop what dead nodes owned; returns how many of them are gone for good."""

    @abstractmethod
    async def leave(self, node: str) -> None:
        """The end of `node`, with all that it owns."""

    @abstractmethod
    async def nodes(self) -> dict[str, dict[str, Any]]:
        """The live nodes and what they say about themselves."""

    # ------------------------------------------------------------------ topics

    @abstractmethod
    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        """Set how many subscribers topics have on `node`; 0 removes one.

        Returns how many topics of `node` have some.
        """

    @abstractmethod
    async def counts(self) -> dict[str, dict[str, int]]:
        """topic -> live node -> subscribers."""

    # --------------------------------------------------------------- presences

    @abstractmethod
    async def change(
        self,
        group: str,
        node: str,
        puts: Entries,
        drops: Iterable[str],
        *,
        is_last: bool = False,
    ) -> tuple[Position, Position]:
        """Put entries of `node` into `group` and drop some by their refs, in one step.

        Returns the group's position before and after; each entry that was really put or
        dropped moves it by one. NOWHERE before the first. With `is_last` the node has nothing
        in the group then.
        """

    @abstractmethod
    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        """Make `entries` all that `node` has in `group`; returns the position."""

    @abstractmethod
    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        """All entries of `group` with their position."""

    @abstractmethod
    async def own(self, node: str, groups: Sequence[str]) -> None:
        """Say again in which groups `node` has something."""

    @abstractmethod
    async def positions(self, groups: Sequence[str]) -> list[Position]:
        """Where each of `groups` is; they are kept from expiring by this."""

    # ----------------------------------------------------------------- history

    @abstractmethod
    async def append(self, items: Sequence[Item]) -> list[Position]:
        """Keep `items`, each at the next position of its topic, which are returned."""

    @abstractmethod
    async def since(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        partial: bool = False,
        limit: int | None = None,
    ) -> tuple[Position, list[Kept]]:
        """Return the position of `topic`, and the first page of what was kept after its `n`-th in order.

        Nothing when that is not all there any more; unless `partial`, then of what is left of
        it. Nothing either when all of it has more than `limit` bytes. A page ends with the last
        broadcast, or past PAGE_BYTES.
        """

    @abstractmethod
    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        """Return the position of `topic`, and how many broadcasts are kept."""

    @abstractmethod
    async def open(self, topic: str, ttl: float) -> Position:
        """Where the history of `topic` is; it begins when there is none."""

    @abstractmethod
    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        """Where the history of each of `topics` is, NOWHERE for none.

        `topics` is topic -> ttl; their positions are kept from expiring by this.
        """

    @abstractmethod
    async def reset(self, topic: str) -> None:
        """Forget the history of `topic`: something is missing in it."""

    async def close(self) -> None:
        """Let go of connections."""


def history_expiry(ttl: float) -> float:
    """Seconds for which a topic's position is known: who missed nothing is told so for longer
    than anything is kept."""
    return max(2 * ttl, 3600.0)
