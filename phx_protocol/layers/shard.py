"""Shard: what one event loop has of one Redis: a connection, and how it comes back."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any, ClassVar, Protocol

from redis.exceptions import ConnectionError

from ..concurrency.tasks import begin, end
from . import resp
from .connection import Command, Connection, Done, logger
from .server import Server
from .subscriptions import ORDINARY, Commands, Subscriptions

#: most bytes that are sent and not answered; other commands wait
IN_FLIGHT = 4 * 1024 * 1024
#: most bytes that wait for that; further messages are refused
LIMIT = 256 * 1024 * 1024
#: seconds until the first try to connect again (at most), and most seconds between two
SOON, LATEST = 0.1, 2.0


class Owner(Protocol):
    """The part of the layer to which a shard reports."""

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None: ...
    def disconnected(self, shard: Any, error: Exception) -> None: ...
    def reconnected(self, shard: Any) -> None: ...
    def has_room(self) -> None: ...


class Shard:
    """Sends commands in order, together what is asked in one turn of the loop; keeps subscriptions.

    While the first try to connect is on its way, commands wait. When it has failed they fail at
    once, until there is a connection again.
    """

    words: ClassVar[Commands] = ORDINARY

    def __init__(self, host: dict[str, Any], owner: Owner) -> None:
        self.subscriptions = Subscriptions(self.words)
        self._loop = asyncio.get_running_loop()
        self._server = Server(host)
        self._owner = owner
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._queue: deque[Command] = deque()
        self._queued = 0  # bytes in the queue
        self._is_scheduled = False
        # why there is no connection; None while there is one, or a first try is on its way
        self._error: Exception | None = None
        self._delay = 0.0  # between the last try and the next one
        self._next_try = 0.0
        self._is_cut = False  # the owner was told that messages may be lost

    # -------------------------------------------------------------------- commands

    @property
    def is_sending(self) -> bool:
        """True if a command waits for its answer."""
        connection = self._connection
        return bool(self._queue or (connection is not None and connection.in_flight))

    @property
    def is_full(self) -> bool:
        """True if publishers should wait: so much is sent and not answered."""
        in_flight = self._connection.in_flight if self._connection else 0
        return in_flight + self._queued >= IN_FLIGHT

    def publish(
        self, channel: bytes, data: bytes, done: Done, exclude: bytes | None = None
    ) -> None:
        """Publish `data`; `done` is called with the answer or the error, perhaps at once."""
        if self._queued > LIMIT:
            return done(ConnectionError(f"{self._queued} bytes wait for Redis"))
        if not self._may_send():
            return done(self._error)
        # the bytes of the command besides those of the data are few
        size = len(channel) + len(data) + 40
        echo = (channel, data) if exclude is not None else None
        parts = resp.pack_publish(self.words.publish, channel, data)
        self._queue.append(Command(parts, size, done, echo=echo, exclude=exclude))
        self._queued += size
        self._schedule()

    def subscribe(self, channel: bytes) -> None:
        """Ask for a subscription to `channel`. Raises the error of the connection."""
        if not self._may_send():
            raise self._error or ConnectionError("there is no connection to Redis")
        if self.subscriptions.add(channel):
            self._schedule()

    def want(self, channel: bytes) -> None:
        """Ask for a subscription to `channel`, which comes later if the server is away."""
        if self.subscriptions.add(channel):
            self._schedule()
        if self._connection is None:
            self._connect()

    def is_away(self) -> bool:
        """Return True if the last try to connect has failed; tell the owner that messages are missed then."""
        if self._error is not None and not self._is_cut:
            self._is_cut = True
            self._owner.disconnected(self, self._error)
        return self._error is not None

    async def subscribed(self, channel: bytes) -> None:
        """Wait until Redis has acknowledged the subscription to `channel`. Raises its error."""
        await self.subscriptions.added(channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe from `channel`, without waiting for it."""
        if self.subscriptions.discard(channel):
            self._schedule()

    def look_now(self) -> None:
        """Look now if the server is still a primary."""
        if self._connection is not None:
            self._connection.look_now()

    def _may_send(self) -> bool:
        """Return True if commands can be sent, or wait for a first try to connect."""
        if self._error is not None and not self._connecting:
            if self._loop.time() >= self._next_try:
                self._error = None
        if self._error is None and self._connection is None:
            self._connect()
        return self._error is None

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        """Send what has been asked for, up to IN_FLIGHT, in one write."""
        self._is_scheduled = False
        connection, queue = self._connection, self._queue
        if connection is None:
            return
        commands = self.subscriptions.commands()
        room = IN_FLIGHT - connection.in_flight
        while queue and room > 0:
            command = queue.popleft()
            room -= command.size
            self._queued -= command.size
            commands.append(command)
        if commands:
            connection.write(commands)

    # ------------------------------------------------------ the owner of a connection

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        self._owner.message(channel, data, exclude)

    def unsubscribed(self, channel: bytes) -> None:
        """Note nothing: outside of a cluster no subscription ends by itself."""

    def demoted(self, connection: Connection, error: Exception) -> None:
        connection.abort(error)

    def answered(self) -> None:
        self._send()
        self._note_room()

    def _note_room(self) -> None:
        if not self.is_full:
            self._owner.has_room()

    def lost(self, connection: Connection, error: Exception) -> None:
        if connection is not self._connection:
            return  # it never was ours, or is not any more
        self._connection = None
        self._put_off(SOON)
        is_cut = len(self.subscriptions) > 0
        self.subscriptions.lost(error)
        if is_cut or self._queue:
            self._connect()
        if is_cut and not self._is_cut:
            self._is_cut = True
            self._owner.disconnected(self, error)
        self._note_room()

    # ------------------------------------------------------------------- connecting

    def _put_off(self, delay: float) -> None:
        """Let the next try wait: many processes may have lost their connections at the same time."""
        self._delay = delay
        self._next_try = self._loop.time() + delay * random.uniform(0.5, 1)

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = begin(self._run())

    async def _run(self) -> None:
        """Connect. With subscriptions, try until that works; without, once: the next command will try."""
        try:
            while True:
                try:
                    await asyncio.sleep(self._next_try - self._loop.time())
                    if self._error is not None and not len(self.subscriptions):
                        return self._restored(None)
                    connection = await self._server.connect(self)
                except Exception as error:
                    self._failed(error)
                else:
                    return self._connected(connection)
        finally:
            self._connecting = None

    def _failed(self, error: Exception) -> None:
        self._put_off(min(max(SOON, 2 * self._delay), LATEST))
        self._error = error
        self.subscriptions.lost(error)
        self._fail(error)
        self._note_room()

    def _fail(self, error: Exception) -> None:
        queue, self._queue, self._queued = self._queue, deque(), 0
        for command in queue:
            command.done(error)

    def _connected(self, connection: Connection) -> None:
        self._connection, self._error, self._delay = connection, None, 0.0
        if connection.is_of_a_cluster and self.words is ORDINARY:
            logger.warning(
                "this Redis is a node of a cluster, which sends each message to all of its nodes: "
                "begin its address with redis+cluster://"
            )
        restored = self.subscriptions.restore()
        self._send()
        if restored is None:
            self._restored(connection)
        else:
            restored.add_done_callback(lambda _: self._restored(connection))

    def _restored(self, connection: Connection | None) -> None:
        """Tell the owner that no message is missed any more, unless `connection` was lost meanwhile."""
        if self._is_cut and connection is self._connection:
            self._is_cut = False
            self._owner.reconnected(self)

    async def close(self) -> None:
        """Close the connection; what waits for it fails. The shard is not used after that."""
        await end(self._connecting)
        connection, self._connection = self._connection, None
        self._is_cut = False
        error = ConnectionError("the connection was closed")
        self.subscriptions.lost(error)
        self._fail(error)
        if connection is not None:
            await connection.end()
        await self._server.close()
