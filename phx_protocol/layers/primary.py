"""Primary: what one event loop has of one primary of a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from .connection import HELLO, Command, Connection, is_moved, settle
from .shard import Owner, Shard
from .slots import TAGS
from .subscriptions import Commands

#: the length of a hash tag and its braces, with which each name of a channel begins
PREFIX = len(TAGS[0]) + 2
SHARDED = Commands(
    b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH", lambda name: name[:PREFIX]
)


class ClusterOwner(Owner, Protocol):
    """The part of the layer to which a primary reports."""

    def ended(self, channel: bytes) -> None: ...
    def moved(self, error: Exception) -> None: ...
    def demoted(self) -> None: ...


class Primary(Shard):
    """A Shard whose channels are of a cluster: they may move to another primary."""

    words = SHARDED

    def __init__(self, host: dict[str, Any], owner: ClusterOwner) -> None:
        super().__init__(host, owner)
        self._cluster = owner
        self.subscriptions.on_refusal = self._refused

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def adopt(self, channels: Iterable[bytes]) -> None:
        """Subscribe to `channels`, at once or as soon as there is a connection."""
        for channel in channels:
            self.subscriptions.add(channel)
        if self._connection is None:
            self._connect()
        else:
            self._schedule()

    async def flushed(self) -> None:
        """Wait until all that was asked for before is answered, or the connection is lost."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append(Command((HELLO,), len(HELLO), settle(answer)))
        self._queued += len(HELLO)
        self._schedule()
        await answer

    async def give_up(self, error: Exception) -> None:
        """End the connection, and all commands: nothing arrives from here any more, and nothing is taken."""
        self._fail(error)
        if (connection := self._connection) is not None:
            connection.abort(error)
            await connection.closed()

    def _refused(self, error: Exception) -> None:
        if is_moved(error):
            self._cluster.moved(error)

    def unsubscribed(self, channel: bytes) -> None:
        if self.subscriptions.ended(channel):
            self._cluster.ended(channel)

    def demoted(self, connection: Connection, error: Exception) -> None:
        # it passes on what is published here: the connection lasts until its channels have moved
        self._cluster.demoted()
