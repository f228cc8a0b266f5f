"""Client: the connection of a state to Redis, over which calls go one behind the other without waiting."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from functools import partial
from typing import Any, TypeAlias

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from ..concurrency.tasks import begin, end
from ..layers import resp
from ..layers.connection import Command, Connection
from ..layers.server import Server
from .scripts import Script

#: most bytes that are sent and not answered; other calls wait
IN_FLIGHT = 4 * 1024 * 1024

Word: TypeAlias = bytes | str | int | float
#: what a call raises
ERRORS = (RedisError, OSError)
#: errors of a server that cannot serve any call at the moment, or of a way to it
AWAY = (ConnectionError, TimeoutError, OSError)
#: the same as codes; Redis 6 wraps them into the error of a script
AWAY_CODES = re.compile(
    r"(?:^|[\s-])(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|NOREPLICAS|OOM|BUSY|TRYAGAIN"
    r"|MOVED|ASK|UNBLOCKED|NOMASTERLINK) "
)
#: those of a server that is not the primary: another connection may lead to that
ELSEWHERE = re.compile(r"(?:^|[\s-])(?:READONLY|LOADING|MASTERDOWN) ")


def is_away(error: Exception) -> bool:
    """Return True if `error` means that the server cannot serve any call at the moment."""
    return isinstance(error, AWAY) or AWAY_CODES.search(str(error)) is not None


class Client:
    """Makes a connection for the first call, and another when that is lost.

    What is called in one turn of the loop is sent together. A call fails with its connection, whether
    Redis has done it or not; only the caller knows if it may be repeated. The connection is given
    up if calls wait and nothing arrives for the seconds of the server's `patience`.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._queue: deque[Command] = deque()
        self._is_scheduled = False
        self._waiting = 0  # number of calls without an answer
        self._watch: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    # ----------------------------------------------------------------------- calls

    async def eval(self, script: Script, keys: list[str], args: list[Word]) -> Any:
        """Run `script`. Raises its error, or that of the connection."""
        rest = len(keys), *keys, *args
        try:
            return await self.call("EVALSHA", script.sha, *rest)
        except RedisError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return await self.call("EVAL", script.source, *rest)

    async def call(self, *words: Word) -> Any:
        """Return the answer to a command. Raises its error, or that of the connection."""
        if self._connection is None:
            await self._connected()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        data, connection = resp.pack(*map(_bytes, words)), self._connection
        self._queue.append(Command((data,), len(data), partial(self._done, answer)))
        if not self._waiting:
            self._be_patient(loop)
        self._waiting += 1
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._send)
        found = await answer
        if isinstance(found, Exception):
            if self._connection is connection and ELSEWHERE.search(str(found)):
                self._give_up(ConnectionError(str(found)))
            # all calls on a connection get its error: each must not add to the traceback of the others
            raise found.with_traceback(None)
        return found

    def _done(self, answer: asyncio.Future[Any], found: Any) -> None:
        self._waiting -= 1
        if not answer.done():  # it may be cancelled
            answer.set_result(found)

    def _send(self) -> None:
        """Send what has been asked for, up to IN_FLIGHT, in one write."""
        self._is_scheduled = False
        connection, queue = self._connection, self._queue
        if connection is None:
            return self._fail(ConnectionError("the connection is lost"))
        commands: list[Command] = []
        room = IN_FLIGHT - connection.in_flight
        while queue and room > 0:
            commands.append(queue.popleft())
            room -= commands[-1].size
        if commands:
            connection.write(commands)

    def _fail(self, error: Exception) -> None:
        queue, self._queue = self._queue, deque()
        for command in queue:
            command.finish(error)

    async def everywhere(self, *words: Word) -> list[Any]:
        """Return the answers of all servers to a command: of this one."""
        return [await self.call(*words)]

    @property
    def patience(self) -> float:
        """The seconds within which the server must answer."""
        return self._server.patience

    # -------------------------------------------------------------------- patience

    def _be_patient(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expect something from the server in time."""
        self._deadline = loop.time() + self._server.patience
        if self._watch is None:
            self._watch = loop.call_at(self._deadline, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watch = None
        if not self._waiting:
            return
        if loop.time() < self._deadline:
            self._watch = loop.call_at(self._deadline, self._look, loop)
        else:
            late = f"Redis has not answered in {self._server.patience:g} seconds"
            self._give_up(TimeoutError(late))

    # ------------------------------------------------------ the owner of a connection

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        """Take no messages: this connection subscribes to nothing."""

    def unsubscribed(self, channel: bytes) -> None:
        """Note nothing, for the same reason."""

    def demoted(self, connection: Connection, error: Exception) -> None:
        connection.abort(error)

    def answered(self) -> None:
        if self._watch is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + self._server.patience
        if self._queue and self._connection is not None:
            self._send()

    def lost(self, connection: Connection, error: Exception) -> None:
        if connection is self._connection:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """End the connection at once; the next call makes another one."""
        if (connection := self._leave(error)) is not None:
            connection.abort(error)

    def _leave(self, error: Exception) -> Connection | None:
        """Forget the connection, and return it; what was not sent by it fails."""
        connection, self._connection = self._connection, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._fail(error)
        return connection

    # ------------------------------------------------------------------- connecting

    async def _connected(self) -> None:
        """Connect; all calls that come meanwhile wait for the same try."""
        connecting = self._connecting
        if connecting is None or connecting.done():
            connecting = self._connecting = begin(self._connect())
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if not connecting.cancelled():
                raise
            raise ConnectionError("the connection was closed") from None

    async def _connect(self) -> None:
        self._connection = await self._server.connect(self)

    async def close(self) -> None:
        """Close the connection; calls that wait for it fail. A later call makes another one."""
        await end(self._connecting)
        closed = ConnectionError("the connection was closed")
        if (connection := self._leave(closed)) is not None:
            await connection.end()
        await self._server.close()


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
