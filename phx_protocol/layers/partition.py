"""Partition: the channels of a cluster that have the same hash tag, and so are on one primary."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from redis.crc import key_slot

from .connection import Done

if TYPE_CHECKING:
    from .primary import Primary


class Message(NamedTuple):
    """A message that was not sent yet, or not taken."""

    channel: bytes
    data: bytes
    done: Done
    exclude: bytes | None

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits, as a Shard counts them."""
        return len(self.channel) + len(self.data) + 40


class Partition:
    """The channels of a partition in one event loop, and the messages that wait while it moves."""

    def __init__(self, tag: str) -> None:
        self.prefix = b"{%b}" % tag.encode()
        self.slot = key_slot(self.prefix)
        #: where it is; None if that is not known, or it is on its way
        self.primary: Primary | None = None
        self.names: set[bytes] = set()  # the channels that are wanted
        self.sent = 0  # messages without an answer
        self.refused: deque[Message] = deque()  # by a primary that has lost it
        self.held: deque[Message] = (
            deque()
        )  # until it has arrived: they come after the others
        self.has_lost = False  # a subscription has ended by itself

    @property
    def waits(self) -> bool:
        """True if messages wait, which later ones must not overtake."""
        return bool(self.refused or self.held)

    @property
    def is_whole(self) -> bool:
        """True if all that is wanted of it is where it should be."""
        if self.waits or self.has_lost:
            return False
        if self.primary is None:
            return not self.names
        return self.primary.subscriptions.are_active(self.names)

    def take_waiting(self) -> Iterator[Message]:
        """Take the messages that wait, in order."""
        for messages in (self.refused, self.held):
            while messages:
                yield messages.popleft()
