"""DirectChannel: a channel whose messages go to a listener as they arrive, and which sends without waiting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from .connection import Done
from .inbox import Message, logger

if TYPE_CHECKING:
    from .loop_layer import LoopLayer


class Listener(Protocol):
    """Code that takes the messages of a channel as they arrive, in place of ``receive()``.

    No method may block: the event loop waits for it, and so does the connection to Redis.
    """

    def take(self, message: Message) -> None:
        """Take a message."""

    def disconnected(self, error: Exception) -> None:
        """Note that the connection to Redis is lost, and messages with it."""

    def reconnected(self) -> None:
        """Note that messages arrive again; those that were sent in between are lost."""


class DirectChannel:
    """A channel of one event loop; only this loop may use it.

    The layer restores its groups when a connection was lost.
    """

    def __init__(self, layer: LoopLayer, name: str, listener: Listener) -> None:
        self.name = name
        self.listener = listener
        self._layer = layer
        self._member = name.encode()
        self._serializer = layer.serializer

    def put(self, data: bytes) -> None:
        """Pass a message to the listener; the layer calls this when it arrives."""
        try:
            self.listener.take(self._serializer.deserialize(data))
        except Exception:
            logger.exception("a message to %s was ignored", self.name)

    def publish(self, group: str, message: Message, done: Done) -> None:
        """Send `message` to all channels of `group` but this one, without waiting.

        `done` is called once: with an error if Redis has not accepted the message, or has not said
        so; else with the answer of Redis. Raises the error of a message that cannot be serialized.
        """
        layer = self._layer
        name = layer.name_of(group)
        data = self._serializer.serialize(message)
        layer.shard_of(name).publish(name, data, done, self._member)

    @property
    def is_full(self) -> bool:
        """True if so much is sent and not answered that publishers should wait for ``room()``."""
        for shard in self._layer.shards:
            if shard.is_full:
                return True
        return False

    async def room(self) -> None:
        """Wait until the event loop has less sent and not answered."""
        await self._layer.room()

    def server_of(self, group: str) -> object:
        """Return what is the same for all groups on one server."""
        return self._layer.servers_of(self._layer.name_of(group))

    def is_spared(self, group: str) -> bool:
        """Return True if another server is away, and not that of `group`."""
        return self._layer.is_spared(self._layer.name_of(group))

    async def groups_add(self, groups: Iterable[str]) -> None:
        """Join `groups`; return when their messages arrive. If an error is raised, none is joined."""
        await self._layer.group_add(groups, self.name)

    def group_discard(self, group: str) -> None:
        """Leave `group`."""
        self._layer.group_discard(group, self.name)

    def look_now(self) -> None:
        """Look now if the servers are still primaries; the layer does it every few seconds."""
        for shard in self._layer.shards:
            shard.look_now()

    def close(self) -> None:
        """End this channel, and leave its groups."""
        self._layer.close_channel(self.name)
