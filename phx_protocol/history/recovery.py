"""Recovery: the last offset that a returning client sends, and the broadcasts that it missed."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from ..logs import get_logger
from ..logs.printable import shown
from ..state import Kept, Position
from ..wire.messages import Broadcast
from .policy import History

logger = get_logger("phx_protocol.channel")


#: most earlier channel ids of one client; it does not get again what it sent through these
SENDERS = 20


class RecoveryRequest(NamedTuple):
    """The broadcasts that a joining client has: all up to `position`, and those of the channels `senders`.

    `is_made` is True if the client sent a request: then it understands offsets and gets them in
    broadcasts. Other clients get a null ref there, as from Phoenix.
    """

    position: Position | None
    senders: frozenset[str]
    is_made: bool = False

    @classmethod
    def of(cls, payload: Any) -> RecoveryRequest:
        """Read the payload of a join: ``{"history": {"offset": str, "senders": [str]}}``.

        ``{"history": {}}`` comes from a client that has nothing yet. For any other payload
        `is_made` is False.
        """
        history = payload.get("history") if isinstance(payload, dict) else None
        if not isinstance(history, dict):
            return cls(None, frozenset())
        senders = history.get("senders")
        names = senders[-SENDERS:] if isinstance(senders, list) else ()
        known = frozenset(n for n in names if isinstance(n, str) and len(n) <= 64)
        return cls(Position.parse(history.get("offset")), known, True)

    @staticmethod
    def remove_from(payload: Any, history: History | None) -> Any:
        """Remove the key "history" from the payload of a join, so that ``join`` does not see it.

        history.js adds it to every join, even if the channel class has no history.
        """
        if not isinstance(payload, dict) or "history" not in payload:
            return payload
        if history is None and not _is_request(payload["history"]):
            return payload
        return {name: value for name, value in payload.items() if name != "history"}


def _is_request(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"offset", "senders"}


class Recovery(NamedTuple):
    """The answer to a request: a position in the topic, and the broadcasts that the client gets.

    `recovered` is True if these are what it missed, and `position` is that of the topic then.
    `rewound` is True if they are the newest ones, and `position` is that before the first of them.
    """

    position: Position | None
    recovered: bool = False
    missed: tuple[Kept, ...] = ()
    rewound: bool = False

    def broadcasts(self, topic: str) -> Iterator[Broadcast]:
        """Yield the missed broadcasts, as they were sent."""
        for kept in self.missed:
            assert self.position is not None
            yield kept_broadcast(topic, self.position.epoch, kept)

    def add_to(self, reply: Any, sender: str) -> Any:
        """Return the `reply` of a join with the key "history" added.

        It has offset, recovered, rewound, sender.
        """
        if not isinstance(reply, dict):
            return reply  # Phoenix allows any JSON; only a dict has room for the key
        offset = None if self.position is None else str(self.position)
        which = {"recovered": self.recovered, "rewound": self.rewound}
        history = {"offset": offset, **which, "sender": sender}
        if "history" in reply:
            logger.error("the reply of a join has its own 'history', which is replaced")
        return {**reply, "history": history}


def kept_broadcast(topic: str, epoch: str, kept: Kept) -> Broadcast:
    offset = str(Position(epoch, kept.n))
    return Broadcast(topic, kept.event, kept.payload, offset, sender=kept.sender)


def seconds_of(bound: Any) -> float:
    """Return what ``rewind_from`` returned as seconds of the epoch. Raises TypeError.

    None is -inf: nothing is too old. A naive datetime is one of TIME_ZONE in a project without
    USE_TZ, whose models have such; in others it is an error.
    """
    if bound is None:
        return -math.inf
    if isinstance(bound, datetime.datetime):
        if timezone.is_naive(bound) and not settings.USE_TZ:
            bound = timezone.make_aware(bound, timezone.get_default_timezone())
        if timezone.is_aware(bound):
            return float(bound.timestamp())
    elif isinstance(bound, (int, float)) and not isinstance(bound, bool):
        if not math.isnan(bound):
            return float(bound)
    raise TypeError(
        "rewind_from must return None, an aware datetime or seconds of the epoch, "
        f"not {shown(bound, 100)}"
    )
