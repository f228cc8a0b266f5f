"""Recovery: what a client that comes back says it has, and what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ..logs import get_logger
from ..state import Kept, Position
from ..wire.messages import Broadcast
from .policy import History

logger = get_logger("phx_protocol.channel")


#: channels of one client whose own broadcasts it need not be told of
SENDERS = 20


class Claim(NamedTuple):
    """A client's word that it has everything up to `position`, and what it sent as one of `senders`.

    A client that makes one knows what the offset of a broadcast is, and gets it; others have a
    ref there that is null, as from Phoenix.
    """

    position: Position | None
    senders: frozenset[str]
    is_made: bool = False

    @classmethod
    def of(cls, payload: Any) -> Claim:
        """The claim in the payload of a join: ``{"history": {"offset": str, "senders": [str]}}``.

        ``{"history": {}}`` is the claim of a client that has nothing yet. What is no claim is not
        made.
        """
        history = payload.get("history") if isinstance(payload, dict) else None
        if not isinstance(history, dict):
            return cls(None, frozenset())
        senders = history.get("senders")
        names = senders[-SENDERS:] if isinstance(senders, list) else ()
        known = frozenset(n for n in names if isinstance(n, str) and len(n) <= 64)
        return cls(Position.parse(history.get("offset")), known, True)

    @staticmethod
    def taken_off(payload: Any, history: History | None) -> Any:
        """The payload of a join without the claim, which ``join`` did not ask for.

        history.js adds it to every join, where the channel class has no history too.
        """
        if not isinstance(payload, dict) or "history" not in payload:
            return payload
        if history is None and not _is_claim(payload["history"]):
            return payload
        return {name: value for name, value in payload.items() if name != "history"}


def _is_claim(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"offset", "senders"}


class Recovery(NamedTuple):
    """What came of a claim: where the topic is, and what the client missed, if that is known."""

    position: Position | None
    recovered: bool = False
    missed: tuple[Kept, ...] = ()

    def broadcasts(self, topic: str) -> Iterator[Broadcast]:
        """The missed ones, as they were sent."""
        for kept in self.missed:
            assert self.position is not None
            yield kept_broadcast(topic, self.position.epoch, kept)

    def told(self, reply: Any, sender: str) -> Any:
        """`reply` of a join with what the client has to know in ``history``."""
        if not isinstance(reply, dict):
            return reply  # Phoenix takes any JSON, and there is no place in it
        offset = None if self.position is None else str(self.position)
        history = {"offset": offset, "recovered": self.recovered, "sender": sender}
        if "history" in reply:
            logger.error("the reply of a join has its own 'history', which is replaced")
        return {**reply, "history": history}


def kept_broadcast(topic: str, epoch: str, kept: Kept) -> Broadcast:
    offset = str(Position(epoch, kept.n))
    payload = msgspec.Raw(kept.payload)
    return Broadcast(topic, kept.event, payload, offset, sender=kept.sender)
