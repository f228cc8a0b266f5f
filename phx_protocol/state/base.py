"""The interface of a state, and its values."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .occupancy import Occupancy
from .rings import Rings

About = Mapping[str, Any]
#: ref of a presence -> its encoded entry
Entries = Mapping[str, bytes]


class Position(NamedTuple):
    """A place in a sequence of steps: the `n`-th step of the sequence named `epoch`.

    An epoch begins with a letter and is never used twice: a sequence that was lost and begins
    again gets a new one.
    """

    epoch: str
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}"

    @classmethod
    def parse(cls, text: Any) -> Position | None:
        """Parse the text that ``str`` makes of a position; None for anything else."""
        if not isinstance(text, str) or len(text) > 100:
            return None
        epoch, _, n = text.rpartition("-")
        digits = n.isascii() and n.isdigit()
        return cls(epoch, int(n)) if epoch and digits else None


class Had(Position):
    """The position of a history that has got the row of an item before, so that the item was not appended."""


def named_in(group: str) -> str:
    """Return the topic or user of a group: what is behind its kind."""
    return group.partition("\n")[2]


#: the position of a sequence that does not exist
NOWHERE = Position("", 0)


def is_behind(position: Position, known: Position | None) -> bool:
    """Return True if the state, which is at `position`, has lost steps up to `known`.

    `known` is the position that the caller knew before it read the state.
    """
    return known is not None and known.epoch == position.epoch and position.n < known.n


def new_epoch() -> str:
    # not a number: phoenix.js takes a frame with the ref of its heartbeat, a number, for the reply
    return f"e{secrets.token_hex(5)}"


class Row(NamedTuple):
    """A row of an outbox: the `n`-th of the rows of `source` that are sent.

    Rows of a source reach a history in the order of their numbers. So one whose number is not above
    the last one's is there already, and is refused.
    """

    source: str
    n: int


class Item(NamedTuple):
    """A broadcast for a history to keep: `payload` is JSON (``msgspec.Raw``) or binary, `id` is unique."""

    topic: str
    id: str
    event: str
    payload: msgspec.Raw | bytes
    sender: str | None
    #: limits of the topic's history: number of broadcasts, seconds that each is kept, total bytes
    size: int
    ttl: float
    max_bytes: int = 4 * 1024 * 1024
    row: Row | None = None

    @property
    def bytes(self) -> int:
        """The bytes that this item counts against `max_bytes`."""
        return len(memoryview(self.payload)) + len(self.event.encode())


class Kept(NamedTuple):
    """A broadcast in a history, the `n`-th of its topic, kept `at` that time (seconds of the epoch)."""

    n: int
    id: str
    event: str
    payload: msgspec.Raw | bytes
    sender: str | None
    #: by the clock of the state; never less than that of the one before
    at: float

    @property
    def bytes(self) -> int:
        return len(memoryview(self.payload)) + len(self.event.encode())


#: a page of a history ends after so many bytes or broadcasts
PAGE_BYTES = 256 * 1024
PAGE = 1000
#: most entries of a group that one step may change: all other calls wait for it
STEP = 500


def require_few(entries: int) -> None:
    """Raise ValueError if one step may not change so many entries."""
    if entries > STEP:
        raise ValueError(f"a step changes at most {STEP} entries, not {entries}")


class State(ABC):
    """The interface of a state.

    Every method may raise StateError although its step was done: the answer may be lost.

    A node is one event loop of one process. It lives while it beats. When its lease is over,
    ``reap`` drops what it owns (its counts, its presences, its users), whichever node calls that.
    """

    #: seconds after which everything that a silent node owned is gone
    lease: float
    #: the name of the server, which is the same in all processes; "" in memory
    server: str = ""
    #: the seconds that the server needed for the answer to the latest beat; None in memory
    round_trip: float | None = None

    def follow(self, rings: Rings, moved: Callable[[Rings], None]) -> None:
        """Begin with these rings; call `moved` with those that the server has, if they are newer."""

    async def adopt(self, rings: Rings) -> None:
        """Go by these rings, and refuse from now on whoever does not know them. May raise StateError."""

    async def clear(self, node: str, groups: Sequence[str]) -> None:
        """Drop what `node` has in `groups`, which are on another server now."""

    @property
    def store(self) -> str:
        """The id of the data on this server: the same under all names of the server, "" while it is not known."""
        return ""

    @property
    def beat_every(self) -> float:
        """Seconds between two beats of a node."""
        return self.lease / 4

    @property
    def silence(self) -> float:
        """Seconds without a beat after which a node is dead; the others notice one beat later."""
        return self.lease - self.beat_every

    @property
    def expiry(self) -> float:
        """Seconds after which data that no node renews expires: all nodes may have died at once."""
        return max(10 * self.lease, 60.0)

    @property
    def linger(self) -> float:
        """Seconds after which the position of an empty group or history expires if no node renews it."""
        return self.lease

    async def lost(self) -> None:
        """Forget everything: the store has lost steps. All nodes notice it as a loss."""

    async def lacks(self) -> dict[str, str]:
        """Try the commands that a state needs. Return those that fail: command -> error. Raises StateError."""
        return {}

    async def eviction_policy(self) -> str | None:
        """Return the server's eviction policy; None if it has none. Raises StateError."""
        return None

    # ------------------------------------------------------------------- nodes

    @abstractmethod
    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        """Renew the lease of `node`. Return False if the lease is over or lost: take a new name.

        `about` is JSON that ``nodes`` returns. With `first` a new lease is made.
        """

    @abstractmethod
    async def reap(self) -> int:
        """Drop everything that dead nodes owned. Return how many nodes were removed."""

    @abstractmethod
    async def leave(self, node: str) -> None:
        """Remove `node` and everything that it owns."""

    @abstractmethod
    async def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the live nodes: name -> the `about` of the last beat."""

    # ------------------------------------------------------------------ topics

    @abstractmethod
    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        """Set how many subscribers topics have on `node`; 0 removes a topic.

        Return how many topics of `node` have subscribers.
        """

    @abstractmethod
    async def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts: topic -> live node -> subscribers."""

    @abstractmethod
    def occupancy(self, kind: str) -> Occupancy:
        """Return which names of `kind`, one of KINDS, have connections."""

    # --------------------------------------------------------------- presences

    @abstractmethod
    async def change(
        self, group: str, node: str, puts: Entries, drops: Collection[str]
    ) -> tuple[Position, Position]:
        """Put entries of `node` into `group` and drop others by their refs, in one step.

        These are at most STEP together: raises ValueError for more. Return the group's position
        before and after. Each entry that was really added or removed moves it by one; before the
        first entry it is NOWHERE.
        """

    @abstractmethod
    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        """Replace all that `node` has in `group` with `entries`. Return the position.

        Many entries are replaced in several steps, first the new ones.
        """

    @abstractmethod
    async def wait(
        self,
        group: str,
        node: str,
        until: float,
        entries: Entries,
        *,
        puts: bool = False,
    ) -> tuple[Position, Position]:
        """Let `entries` of `node` wait until then (whole seconds of the epoch), at most STEP together.

        They stay in `group`, whatever becomes of the node, until one is taken, or ``reap`` drops them.
        With `puts` those that the group lacks are put. Return as ``change`` does.
        """

    @abstractmethod
    async def take(self, group: str, node: str, refs: Collection[str]) -> str | None:
        """Give `node` that of the entries `refs` that waits longest. Return its ref, or None.

        One that `node` has already is returned before those that wait: the answer to an earlier call
        may be lost.
        """

    @abstractmethod
    async def end_wait(
        self, group: str, until: float, refs: Collection[str]
    ) -> tuple[Position, Position]:
        """Drop those of the entries `refs`, at most STEP, that still wait until then.

        Return as ``change`` does.
        """

    @abstractmethod
    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        """Return the position of `group` and all its entries at this position."""

    @abstractmethod
    async def positions(self, groups: Sequence[str], node: str = "") -> list[Position]:
        """Return the position of each of `groups`.

        Keep the groups from expiring, and what `node` has in them.
        """

    # ------------------------------------------------------------------- rates

    @abstractmethod
    async def rate(self, name: str, times: int, seconds: float) -> float:
        """Count one of at most `times` in any `seconds`, which may all come at once.

        Return the seconds until one more is allowed; if it is 0, one was counted.
        """

    # ----------------------------------------------------------------- history

    @abstractmethod
    async def append(self, items: Sequence[Item]) -> list[Position | None]:
        """Keep `items`, each at the next position of its topic. Return these positions.

        It is None for one that is not kept, because its topic is on another server now, and ``Had`` for one
        whose row the topic has had.
        """

    @abstractmethod
    async def since(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        partial: bool = False,
        limit: int | None = None,
        was_here: bool = False,
    ) -> tuple[Position, list[Kept]]:
        """Return the position of `topic`, and in order the first page of the broadcasts after its `n`-th.

        With `was_here` these are those that were kept before the topic moved to another server.

        The page is empty if some of these are no longer kept; with `partial` it has those that
        are. It is also empty if all of them together have more than `limit` bytes. A page ends
        after PAGE broadcasts or PAGE_BYTES.
        """

    @abstractmethod
    async def rewind(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        count: int | None,
        seconds: float | None,
        limit: int,
    ) -> tuple[Position, int]:
        """Return the position of `topic`, and the number before the first of its newest broadcasts.

        These are broadcasts up to the `n`-th: at most `count` (None for any number), none older than
        `seconds` (None for any age), and together of at most `limit` bytes. The number is `n` if there
        are none. Nothing but that is read.
        """

    @abstractmethod
    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        """Return the position of `topic`, and how many broadcasts its history keeps."""

    @abstractmethod
    async def open(self, topic: str, ttl: float) -> Position:
        """Return the position of the history of `topic`; begin a history if there is none."""

    @abstractmethod
    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        """Return the position of the history of each of `topics`, NOWHERE if it has none.

        `topics` is topic -> ttl. This keeps the positions from expiring.
        """

    @abstractmethod
    async def reset(self, topic: str) -> None:
        """Forget the history of `topic`, because a broadcast is missing in it."""

    async def close(self) -> None:
        """Close the connections to the store."""


def waiting(until: float) -> str:
    """Return the owner of the entries that wait until then, in seconds of the epoch."""
    return f"~{int(until * 1000)}"


def is_waiting(node: str) -> bool:
    """Return whether `node` is the owner of entries that wait: it is no node."""
    return node[:1] == "~"


def history_expiry(ttl: float) -> float:
    """Return the seconds for which a topic's position is kept.

    It is longer than broadcasts are kept, so that a client that missed nothing still gets to
    know that.
    """
    return max(2 * ttl, 3600.0)
