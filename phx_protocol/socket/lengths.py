"""Lengths: how long the parts of a frame may be."""

from __future__ import annotations

import functools
from typing import Any

from ..conf import Options
from ..wire.json import encode
from ..wire.messages import Message
from ..wire.reasons import Refusal


class Lengths:
    """The limits of the parts of a frame; one object for all connections with the same settings."""

    __slots__ = ("shortest", "_topic", "_event", "_ref")

    def __init__(self, options: Options) -> None:
        self._topic = options.max_topic_length
        self._event = options.max_event_length
        self._ref = options.max_ref_length
        self.shortest = min(self._topic, self._event, self._ref)

    def too_long(self, message: Message) -> Refusal | None:
        """Return the refusal if a part of `message` is too long, else None."""
        if _length(message.topic) > self._topic:
            return Refusal.TOPIC_TOO_LONG
        if _length(message.event) > self._event:
            return Refusal.EVENT_TOO_LONG
        longest = max(_length(message.ref), _length(message.join_ref))
        return Refusal.REF_TOO_LONG if longest > self._ref else None


lengths_of = functools.cache(Lengths)


def _length(value: Any) -> int:
    return len(value if isinstance(value, str) else encode(value))
