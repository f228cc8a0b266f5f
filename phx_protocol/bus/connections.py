"""The connections of the local bus: a Peer sends, a Hearing receives.

A message is four bytes with its length, and msgpack.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec

from ..concurrency.tasks import within
from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import describe
from .folder import Neighbour

logger = get_logger("phx_protocol.pubsub")

#: most bytes of one message
LARGEST = 32 * 1024 * 1024
#: bytes that wait for one process, from which on publishers wait
FULL = 1024 * 1024
#: bytes that may wait for one process; then the connection to it ends
WAITING = 64 * 1024 * 1024
#: seconds in which a process must take a connection, or some of what was sent to it
TIMEOUT = 5.0
#: connections that may wait until a process takes them
BACKLOG = 1024
#: seconds between two tries to connect to a process for which so many wait, and for which a process
#: is not read that sends faster than its messages are handled
PAUSE = 0.02

_HEAD = struct.Struct("!I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return `message` as it is sent. Raises EncodeError if it is too large."""
    data = _encode(message)
    if len(data) > LARGEST:
        raise EncodeError(
            f"{len(data)} bytes are more than the local bus carries, {LARGEST}"
        )
    return _HEAD.pack(len(data)) + data


class Peer(asyncio.Protocol):
    """A connection to the socket of another process, for what this one sends."""

    _transport: asyncio.WriteTransport

    def __init__(self, process: Neighbour, those: dict[str, Peer]) -> None:
        self._address = process.address
        self._serves = process.serves
        self._those = those
        self._written = self._taken = 0  # bytes
        self._taken_at = 0.0
        self._empty: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.WriteTransport, transport)
        transport.set_write_buffer_limits(0)  # so that it says when all is written
        self._those[self._address] = self

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        self.resume_writing()

    def _forget(self) -> None:
        if self._those.get(self._address) is self:
            del self._those[self._address]

    @property
    def waiting(self) -> int:
        """How many bytes wait until the process takes them."""
        return self._transport.get_write_buffer_size()

    @property
    def is_behind(self) -> bool:
        """True if publishers should wait for the process: it serves clients, and takes what it is sent.

        Nobody waits for a command, whose output may go to a pager.
        """
        return self.waiting > FULL and self._serves and not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """True if the process has taken nothing for TIMEOUT seconds."""
        now, waiting = time.monotonic(), self.waiting
        taken = self._written - waiting
        if taken != self._taken or not waiting:
            self._taken, self._taken_at = taken, now
        return now - self._taken_at > TIMEOUT

    def write(self, data: bytes) -> None:
        """Send `data`; end the connection if too much waits already."""
        if self.waiting + len(data) > WAITING:
            logger.warning("a process on the local bus does not read, it is left out")
            self._forget()
            self._transport.abort()
        else:
            self._written += len(data)
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._empty = self._empty or asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        empty, self._empty = self._empty, None
        if empty is not None:
            empty.set_result(None)

    async def flushed(self) -> bool:
        """Wait until the machine has all that was written; return False if the process takes nothing."""
        while self._empty is not None and not self.is_stuck:
            await within(TIMEOUT / 5, self._empty)
        return not self.waiting and not self._transport.is_closing()

    def close(self) -> None:
        self._forget()  # at once: what is sent meanwhile needs another connection
        self._transport.close()


async def connect(process: Neighbour, those: dict[str, Peer]) -> None:
    """Make a Peer. Raises OSError; TimeoutError if the process takes no connection in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + TIMEOUT
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(process.address)
                break
            except BlockingIOError:
                # asyncio would take this for success: too many connections wait there
                if loop.time() > end:
                    raise TimeoutError("it takes no connections") from None
                await asyncio.sleep(PAUSE)
        await loop.create_unix_connection(lambda: Peer(process, those), sock=connection)
    except BaseException:
        connection.close()
        raise


class Hearing(asyncio.Protocol):
    """A connection that another process has made, with what it sends.

    `take` is called with each message, `connected` at the beginning; `is_behind` says that so many
    wait to be handled that no more should come.
    """

    def __init__(
        self,
        take: Callable[[Hearing, Message], None],
        connected: Callable[[], None],
        is_behind: Callable[[], bool],
        those: set[Hearing],
    ) -> None:
        self._take = take
        self._connected = connected
        self._is_behind = is_behind
        self._those = those
        self._data = bytearray()
        #: the address of the other process, if it has told it
        self.sender: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        try:
            is_ours = is_of_this_user(transport)
        except OSError as error:
            logger.warning("the local bus drops a connection: %s", error)
            return transport.abort()
        if not is_ours:
            logger.warning("another user has connected to the local bus: refused")
            return transport.abort()
        self._those.add(self)
        self._connected()

    def connection_lost(self, error: Exception | None) -> None:
        self._those.discard(self)
        self._data.clear()

    def data_received(self, data: bytes) -> None:
        self._data += data
        at = 0
        try:
            while len(self._data) >= at + _HEAD.size:
                (length,) = _HEAD.unpack_from(self._data, at)
                if length > LARGEST:
                    raise ValueError(f"{length} bytes are more than {LARGEST}")
                after = at + _HEAD.size + length
                if len(self._data) < after:
                    break
                message = _decode(memoryview(self._data)[at + _HEAD.size : after])
                if not isinstance(message, dict):
                    raise ValueError("a message is a map")
                at = after
                self._handle(message)
        except Exception as error:
            logger.warning("the local bus drops a connection: %s", describe(error))
            return self.close()
        del self._data[:at]
        if self._is_behind():
            self._transport.pause_reading()
            self._read_later()

    def _handle(self, message: Message) -> None:
        try:
            self._take(self, message)
        except Exception as error:
            logger.error("a message on the local bus was ignored: %s", describe(error))

    def _read_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(PAUSE, self._read_on)

    def _read_on(self) -> None:
        if self._is_behind():
            self._read_later()
        else:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._transport.resume_reading()

    def close(self) -> None:
        self._transport.abort()


def is_of_this_user(transport: asyncio.Transport) -> bool:
    """Return False if the other side runs as another user; the folder keeps others out already.

    Raises OSError if too many files are open.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    own = transport.get_extra_info("socket")
    # a copy: uvloop gives a socket that cannot be asked
    with socket.socket(fileno=os.dup(own.fileno())) as connection:
        size = struct.calcsize("3i")
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return bool(struct.unpack("3i", found)[1] == os.getuid())
