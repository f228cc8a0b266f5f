"""History: which broadcasts of a topic are kept, and how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ..logs import get_logger
from ..wire.messages import Broadcast

logger = get_logger("phx_protocol.channel")


@dataclasses.dataclass(frozen=True)
class History:
    """``Channel.history``: the broadcasts that a client gets when it comes back.

    The last `size` broadcasts of each topic are kept for `ttl` seconds, as long as they have
    at most `max_bytes` together (payloads and event names): those with one of the `events`, or all.
    Binary broadcasts and pushes are not kept. A client that missed more than `max_replay_bytes` gets
    none of it, and ``recovered: false`` in the reply to its join. Clients need only phoenix.js: see
    ``static/phx_protocol/history.js``. Raises ValueError, TypeError.
    """

    size: int = 100
    ttl: float = 300.0
    events: Iterable[str] | None = None
    max_bytes: int = 4 * 1024 * 1024
    max_replay_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1 or self.ttl < 0.001:
            raise ValueError("a history has a size of 1 or more, and a ttl above 0")
        for limit in (self.max_bytes, self.max_replay_bytes):
            if not isinstance(limit, int) or limit < 1:
                raise ValueError("a history has limits of 1 byte or more")
        if isinstance(self.events, str):
            raise TypeError("the events of a history are a set of names, not a string")
        if self.events is not None:
            object.__setattr__(self, "events", frozenset(self.events))

    def keeps(self, broadcast: Broadcast) -> bool:
        if isinstance(broadcast.payload, bytes):
            return False
        return self.events is None or broadcast.event in self.events


class Everything(frozenset[str]):
    """The set of all events."""

    def __contains__(self, event: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


EVERYTHING = Everything()


def held_events(intercepts: frozenset[str], history: History | None) -> frozenset[str]:
    """Return the events whose broadcasts wait in the channel's mailbox.

    These are the intercepted events. If the history keeps one of them, then also all events that
    it keeps: broadcasts must reach a client in order, so that a client that has a later one also
    has the earlier ones.
    """
    if history is None or not intercepts:
        return intercepts
    if history.events is None:
        return EVERYTHING
    kept = frozenset(history.events)
    return intercepts | kept if intercepts & kept else intercepts
