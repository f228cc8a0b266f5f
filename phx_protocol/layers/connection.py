"""Connection: one connection to Redis, by which commands leave and answers and messages arrive.

Redis answers commands in their order, so nothing waits for the answer of another command. Messages of
the subscribed channels come in between (RESP3).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from redis.exceptions import ConnectionError, ResponseError

from ..logs import get_logger
from . import resp

logger = get_logger("phx_protocol.layers")

#: seconds between two looks at the server. Each asks it for its role; three of them without a byte
#: from it, and the connection is given up: within 12 seconds
INTERVAL = 4.0
SILENT = 3
#: seconds for which arriving messages may hold the event loop
HELD = 0.015

HELLO = resp.pack(b"HELLO")
#: errors which mean that the server cannot be used as a primary, or not by this connection
AWAY = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")

Done = Callable[[Any], None]
#: the channel and the data of a message that a channel of this process does not get back
Echo = tuple[bytes, bytes]


class Command:
    """A command; `done` is called with its answer, or with the error if there is none."""

    __slots__ = ("parts", "size", "done", "answers", "echo", "exclude", "may_fail")

    def __init__(
        self,
        parts: Iterable[bytes],
        size: int,
        done: Done,
        answers: int = 1,
        echo: Echo | None = None,
        exclude: bytes | None = None,
        may_fail: bool = False,
    ) -> None:
        self.parts = parts
        self.size = size
        self.done = done
        self.answers = answers  # one for each channel of a SUBSCRIBE
        self.echo = echo
        self.exclude = exclude
        self.may_fail = may_fail  # an error is not yet its answer

    def finish(self, answer: Any) -> None:
        """Call `done`. Its errors concern no other command."""
        try:
            self.done(answer)
        except Exception:
            logger.exception("an answer of Redis was not taken")


class Owner(Protocol):
    """The object to which a connection reports."""

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        """Take a message; the channel `exclude` of this process sent it and does not want it back."""

    def unsubscribed(self, channel: bytes) -> None:
        """Note that a channel of a cluster does not arrive any more: because of a command, or by itself."""

    def demoted(self, connection: Connection, error: Exception) -> None:
        """Note that the server is not a primary any more, or cannot work as one."""

    def answered(self) -> None:
        """Note that there is room for more commands."""

    def lost(self, connection: Connection, error: Exception) -> None:
        """Note that `connection` is closed; its commands fail after that."""


class Connection(asyncio.Protocol):
    """Reads and writes on a transport that redis-py has connected and authenticated."""

    def __init__(self, owner: Owner, opened: Any) -> None:
        self._owner = owner
        # redis-py's connection: its end closes the transport
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, opened._writer.transport)
        self._parser = resp.Parser()
        self._waiting: deque[Command] = deque()  # for their answers, in order
        self._answered: Command | None = None  # the last that has its answer
        self._silent = 0
        self._paused = False
        self._error: Exception | None = None
        self.in_flight = 0  # bytes of the commands that wait for answers
        self.is_of_a_cluster = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._transport.set_protocol(self)
        self._timer = self._loop.call_later(INTERVAL, self._look)

    async def begin(self) -> None:
        """Change to RESP3. Raises an error if that fails, or the server is not a primary."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.write([_command(resp.pack(b"HELLO", b"3"), settle(answer))])
        found = await answer
        if "unknown command" in str(found):
            raise ConnectionError(f"Redis 6 or newer is needed: {found}")
        if isinstance(found, Exception):
            raise found
        if not isinstance(found, dict):
            raise resp.ProtocolError(f"HELLO was answered with {found!r:.100}")
        self.is_of_a_cluster = found.get(b"mode") == b"cluster"
        _check_role(found)
        if self._error is not None:  # it was lost right after that
            raise self._error

    # -------------------------------------------------------------------- sending

    def write(self, commands: list[Command]) -> None:
        """Send `commands` at once, together."""
        parts: list[bytes] = []
        for command in commands:
            parts += command.parts
            self.in_flight += command.size
        self._waiting += commands
        if self._error is None:
            self._transport.write(b"".join(parts))

    def look_now(self) -> None:
        """Ask the server for its role; if it is not a primary any more, the connection ends."""
        self.write([_command(HELLO, self._take_role)])

    def _look(self) -> None:
        if self._silent >= SILENT - 1:
            silence = f"Redis has sent nothing for {SILENT * INTERVAL:g} seconds"
            return self.abort(ConnectionError(silence))
        self._silent += 1
        self.look_now()
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _take_role(self, answer: Any) -> None:
        try:
            _check_role(answer)
        except ConnectionError as error:
            self._owner.demoted(self, error)

    # ------------------------------------------------------------------ receiving

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        self._parser.feed(data)
        if not self._paused:
            self._take()

    def _take(self) -> None:
        began = time.monotonic()
        try:
            for value in self._parser:
                self._handle(value)
                if time.monotonic() - began > HELD:
                    return self._pause()
        except resp.ProtocolError as error:
            self.abort(error)
        self._owner.answered()

    def _pause(self) -> None:
        """Let others have the event loop before the next message is taken."""
        self._paused = True
        self._transport.pause_reading()
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._error is None:
            self._transport.resume_reading()
            self._take()

    def _handle(self, value: Any) -> None:
        if self._error is not None:
            return  # this connection is given up: the next one delivers
        if type(value) is not resp.Push:
            self._answer(value)
        elif value[0] == b"message":
            _, channel, data = value
            self._owner.message(channel, data, self._excluded(channel, data))
        elif value[0] in (b"subscribe", b"unsubscribe", b"ssubscribe"):
            self._answer(value)
        elif value[0] == b"sunsubscribe":
            # Redis also says so when a slot is moved away, so it is not an answer
            self._owner.unsubscribed(value[1])

    def _answer(self, answer: Any) -> None:
        if not self._waiting:
            raise resp.ProtocolError(f"Redis answered nothing: {answer!r:.100}")
        command = self._waiting[0]
        if command.may_fail and isinstance(answer, ResponseError):
            return
        command.answers -= 1
        if command.answers and not isinstance(answer, ResponseError):
            return
        self._answered = self._waiting.popleft()
        self.in_flight -= command.size
        command.finish(answer)

    def _excluded(self, channel: bytes, data: bytes) -> bytes | None:
        """Return the channel that sent this message over this connection, if it does not want it back.

        Redis sends it beside the answer to its PUBLISH: before it, or after it from version 7.2 on.
        """
        after, before = self._answered, self._waiting[0] if self._waiting else None
        for command in (after, before):
            if command is not None and command.echo is not None:
                if command.echo[1] == data and command.echo[0] == channel:
                    command.echo = None
                    return command.exclude
        return None

    # --------------------------------------------------------------------- the end

    async def end(self) -> None:
        """Close the connection; what was written before is still sent."""
        self._error = self._error or ConnectionError("the connection was closed")
        self._transport.close()
        await asyncio.wait({self._closed}, timeout=1)
        if not self._closed.done():  # with TLS both sides have to say goodbye
            self._transport.abort()
            await asyncio.wait({self._closed})

    async def closed(self) -> None:
        """Wait until the connection is closed, and its commands have failed."""
        await asyncio.wait({self._closed})

    def abort(self, error: Exception) -> None:
        """Close the connection at once, because of `error`."""
        self._error = self._error or error
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        # redis-py warns of what it has not closed itself
        self._opened._reader = self._opened._writer = None
        if self._error is None:
            reason = f"Redis closed the connection ({error})" if error else ""
            self._error = ConnectionError(reason or "Redis closed the connection")
        # first: whoever is told of a failure and sends again must not send here
        self._owner.lost(self, self._error)
        for command in self._waiting:
            command.finish(self._error)
        self._waiting.clear()
        self._closed.set_result(None)


def is_moved(error: Any) -> bool:
    """Return True if a node of a cluster says that another one has the slot of a command, which was not done."""
    return isinstance(error, ResponseError) and str(error).startswith("MOVED ")


def settle(future: asyncio.Future[Any]) -> Done:
    """Return a function that gives `future` its result, unless it is cancelled."""
    return lambda result: None if future.done() else future.set_result(result)


def _command(data: bytes, done: Done) -> Command:
    return Command((data,), len(data), done)


def _check_role(answer: Any) -> None:
    """Raise ConnectionError if the answer to HELLO is not that of a server that works as a primary."""
    if isinstance(answer, ConnectionError):
        raise answer
    if isinstance(answer, dict):
        role = answer.get(b"role", b"master").decode()
        if role != "master":
            raise ConnectionError(f"this Redis is not a primary, its role is {role}")
    elif str(answer).startswith(AWAY):
        raise ConnectionError(str(answer))
