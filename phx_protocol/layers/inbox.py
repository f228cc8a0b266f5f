"""Inbox: the messages of an ordinary channel, until they are received."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..logs import get_logger

logger = get_logger("phx_protocol.layers")

#: most bytes of messages that nobody has received; later ones are dropped
LIMIT = 16 * 1024 * 1024
#: bytes that each message costs besides its own: those of an object, and of its place
OBJECT = 48

Message = dict[str, Any]


class Serializer(Protocol):
    """Turns messages into bytes and back, as the serializers of channels_redis do."""

    def serialize(self, message: Message) -> bytes: ...
    def deserialize(self, message: bytes) -> Message: ...


class Inbox:
    """The messages of a channel that wait for ``receive()``."""

    def __init__(self, serializer: Serializer, name: str) -> None:
        self._serializer = serializer
        self._name = name
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._bytes = 0
        self._drops = False  # the log says so once

    def put(self, data: bytes) -> None:
        size = len(data) + OBJECT
        if self._bytes + size > LIMIT:
            if not self._drops:
                self._drops = True
                logger.warning(
                    "messages to %s are dropped: %s bytes wait there, and nobody receives them",
                    self._name,
                    self._bytes,
                )
            return
        self._bytes += size
        self._queue.put_nowait(data)

    async def get(self) -> Message:
        """Wait for a message. Raises the error of one that cannot be deserialized."""
        data = await self._queue.get()
        self._bytes -= len(data) + OBJECT
        self._drops = self._drops and not self._queue.empty()
        return self._serializer.deserialize(data)
