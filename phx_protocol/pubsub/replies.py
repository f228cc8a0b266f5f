"""Replies: replies to events that a channel sends later, from any process."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any, Protocol

from ..wire import json


@dataclasses.dataclass(frozen=True, slots=True)
class ReplyRef:
    """The name of an event that is replied to later, from any process; made by ``Channel.reply_ref``."""

    node: str
    channel_id: str
    topic: str
    join_ref: Any
    ref: Any


class Replier(Protocol):
    """The server of a channel, which sends later replies to its client."""

    @property
    def id(self) -> str: ...
    def reply(self, ref: ReplyRef, status: str, payload: Any) -> None: ...


class Replies:
    """The channels of one node that have made a ReplyRef, as long as they live."""

    def __init__(self) -> None:
        self._repliers: weakref.WeakValueDictionary[str, Replier]
        self._repliers = weakref.WeakValueDictionary()

    def expect(self, replier: Replier) -> None:
        self._repliers[replier.id] = replier

    def send(self, ref: ReplyRef, status: str, payload: Any) -> bool:
        """Reply to the event named by `ref`. Return False if its channel is not in this node."""
        replier = self._repliers.get(ref.channel_id)
        if replier is not None:
            replier.reply(ref, status, payload)
        return replier is not None

    def take(self, message: dict[str, Any]) -> None:
        """Send the reply in a message of the layer, if its channel is in this node."""
        payload = message["payload"]
        if not isinstance(payload, bytes):
            payload = json.decode(payload)
        self.send(ReplyRef(**message["ref"]), message["status"], payload)
