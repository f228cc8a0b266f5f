"""Replies: answers that a channel gives later, from whatever process."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any, Protocol

from ..wire import json


@dataclasses.dataclass(frozen=True, slots=True)
class ReplyRef:
    """Names an event that is answered later, from anywhere; ``Channel.reply_ref`` makes it."""

    node: str
    channel_id: str
    topic: str
    join_ref: Any
    ref: Any


class Replier(Protocol):
    """Sends a later reply to its client: the server of a channel."""

    @property
    def id(self) -> str: ...
    def reply(self, ref: ReplyRef, status: str, payload: Any) -> None: ...


class Replies:
    """The channels of one node that have given out a ReplyRef, as long as they live."""

    def __init__(self) -> None:
        self._repliers: weakref.WeakValueDictionary[str, Replier]
        self._repliers = weakref.WeakValueDictionary()

    def expect(self, replier: Replier) -> None:
        self._repliers[replier.id] = replier

    def send(self, ref: ReplyRef, status: str, payload: Any) -> bool:
        """Answer `ref`; returns False if its channel does not live here."""
        replier = self._repliers.get(ref.channel_id)
        if replier is not None:
            replier.reply(ref, status, payload)
        return replier is not None

    def take(self, message: dict[str, Any]) -> None:
        """Send the reply in a message of the layer, if its channel lives here."""
        payload = message["payload"]
        if not isinstance(payload, bytes):
            payload = json.decode(payload)
        self.send(ReplyRef(**message["ref"]), message["status"], payload)
