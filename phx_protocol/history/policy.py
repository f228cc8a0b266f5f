"""History: which broadcasts of a topic are kept, and how many."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from ..logs import get_logger
from ..state import Kept
from ..wire.messages import Broadcast

logger = get_logger("phx_protocol.channel")


@dataclasses.dataclass(frozen=True)
class History:
    """``Channel.history``: the broadcasts that a client gets when it comes back, or is new.

    The last `size` broadcasts of each topic are kept for `ttl` seconds, as long as they have
    at most `max_bytes` together (payloads and event names): those with one of the `events`, or all.
    Pushes are not kept. A client that missed more than `max_replay_bytes` gets none of it, and
    ``recovered: false`` in the reply to its join. Clients need only phoenix.js: see
    ``static/phx_protocol/history.js``.

    With `rewind` a client that joins for the first time, or of which it is not known what it missed,
    gets the newest ones: so many (1: the last value), or those of a time (a ``timedelta``), and of
    these at most `max_replay_bytes`. By default, 0, it gets none. Raises ValueError, TypeError.
    """

    size: int = 100
    ttl: float = 300.0
    events: Iterable[str] | None = None
    max_bytes: int = 4 * 1024 * 1024
    max_replay_bytes: int = 1024 * 1024
    rewind: int | datetime.timedelta = 0

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1 or self.ttl < 0.001:
            raise ValueError("a history has a size of 1 or more, and a ttl above 0")
        for limit in (self.max_bytes, self.max_replay_bytes):
            if not isinstance(limit, int) or limit < 1:
                raise ValueError("a history has limits of 1 byte or more")
        self._check_rewind()
        if isinstance(self.events, str):
            raise TypeError("the events of a history are a set of names, not a string")
        if self.events is not None:
            object.__setattr__(self, "events", frozenset(self.events))

    def _check_rewind(self) -> None:
        rewind = self.rewind
        if isinstance(rewind, datetime.timedelta):
            if rewind <= datetime.timedelta():
                raise ValueError("the time of a rewind is above 0")
        elif isinstance(rewind, bool) or not isinstance(rewind, int):
            raise TypeError(
                f"a rewind is a number of broadcasts or a timedelta, not {rewind!r:.100}"
            )
        elif not 0 <= rewind <= self.size:
            raise ValueError(
                f"a rewind is 0 to {self.size} broadcasts: not more than are kept"
            )

    def keeps(self, broadcast: Broadcast) -> bool:
        return self.events is None or broadcast.event in self.events


class AllEvents(frozenset[str]):
    """The set of all events."""

    def __contains__(self, event: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


ALL_EVENTS = AllEvents()


def queued_events(
    intercepts: frozenset[str], history: History | None
) -> frozenset[str]:
    """Return the events whose broadcasts wait in the channel's mailbox.

    These are the intercepted events. If the history keeps one of them, then also all events that
    it keeps: broadcasts must reach a client in order, so that a client that has a later one also
    has the earlier ones.
    """
    if history is None or not intercepts:
        return intercepts
    if history.events is None:
        return ALL_EVENTS
    kept = frozenset(history.events)
    return intercepts | kept if intercepts & kept else intercepts


def bounds_of(history: History) -> dict[str, Any]:
    """Return what bounds a rewind, as ``State.rewind`` takes it."""
    rewind, limit = history.rewind, history.max_replay_bytes
    if isinstance(rewind, datetime.timedelta):
        return {"count": None, "seconds": rewind.total_seconds(), "limit": limit}
    return {"count": rewind, "seconds": None, "limit": limit}


def newest(kept: Sequence[Kept], history: History) -> Sequence[Kept]:
    """Return the last of these broadcasts: as many as a rewind may have, and their bytes."""
    count = bounds_of(history)["count"]
    first, size = len(kept), 0
    while first and len(kept) - first != count:
        size += kept[first - 1].bytes
        if size > history.max_replay_bytes:
            break
        first -= 1
    return kept[first:]
