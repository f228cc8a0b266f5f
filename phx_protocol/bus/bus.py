"""Bus: the Unix sockets between this node and the other processes of the project.

A node that listens has a socket, and sends over connections of its own to the sockets of all others.
So nobody answers on a connection that somebody else has made. A new connection also tells its
receiver to look who is there.

A message is four bytes with its length, and msgpack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
from django.conf import settings

from ..concurrency.tasks import begin, end
from ..conf import options
from ..logs import get_logger
from ..logs.printable import describe
from .folder import Neighbour, Place, neighbours

logger = get_logger("phx_protocol.pubsub")

#: most bytes of one message; the largest that is sent is a call of another node
LARGEST = 16 * 1024 * 1024
#: bytes that may wait for one process; then the connection to it ends
WAITING = 64 * 1024 * 1024
#: bytes that wait for one process, from which on publishers wait
FULL = 1024 * 1024
#: seconds in which a process must take a connection, and what was sent before
TIMEOUT = 5.0

_HEAD = struct.Struct("!I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

Message = dict[str, Any]


def is_on() -> bool:
    """Return True if processes with a layer in memory reach each other: LOCAL_BUS, or by default DEBUG."""
    chosen = options().local_bus
    is_wanted = settings.DEBUG if chosen is None else chosen
    return bool(is_wanted) and hasattr(socket, "AF_UNIX") and not is_tested()


def is_tested() -> bool:
    """Return True under a test runner, and in the processes that a test starts."""
    utils = sys.modules.get("django.test.utils")
    state = getattr(utils, "_TestState", None)
    is_in_test = bool(os.environ.get("PYTEST_CURRENT_TEST"))
    return hasattr(state, "saved_data") or is_in_test


class Bus:
    """The connections of one node. It listens between ``open`` and ``close``, and may send at any time.

    `take` is called with each message. If `carries` is False, it only takes a place in the folder.
    """

    def __init__(self, take: Callable[[Message], None], *, carries: bool) -> None:
        self._take = take
        self._carries = carries
        self._place: Place | None = None
        self._server: asyncio.Server | None = None
        self._heard: set[Hearing] = set()
        self._peers: dict[str, Peer] = {}
        self._late: deque[tuple[bytes, str | None, asyncio.Future[None]]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looks = asyncio.Lock()
        self._is_new = False  # True if somebody has connected since the last look

    @property
    def address(self) -> str | None:
        """The address of this node, or None if it does not listen."""
        return self._place.address if self._place and self._server else None

    @property
    def may_be_heard(self) -> bool:
        """False if it listens and nobody else is there: a newcomer would have connected."""
        return self._server is None or bool(self._peers or self._late)

    async def open(self, *, serves: bool) -> None:
        """Take a place in the folder, and listen. Without a place it does nothing but log why."""
        try:
            self._place = Place(serves=serves)
            if self._carries:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(
                    lambda: Hearing(self._take, self._connected, self._heard),
                    self._place.address,
                )
                await self._look()
        except OSError as error:
            level = logging.WARNING if self._carries else logging.DEBUG
            logger.log(level, "other processes do not reach this one: %s", error)

    async def close(self) -> None:
        """Leave the place, and end all connections."""
        place, self._place = self._place, None
        server, self._server = self._server, None
        if place is not None:
            place.leave()
        if server is not None:
            server.close()
        await end(self._looking)
        await end(self._sending)
        for _, _, done in self._late:
            done.cancel()
        self._late.clear()
        connections: list[Hearing | Peer] = [*self._heard, *self._peers.values()]
        for connection in connections:
            connection.close()

    # ------------------------------------------------------------------- sending

    def send(
        self, message: Message, address: str | None = None
    ) -> asyncio.Future[None] | None:
        """Send to the process at `address`, or to all others.

        The future is done when the machine has it; None: no need to wait. Raises the error of a
        message that cannot be encoded.
        """
        data = _encode(message)
        data = _HEAD.pack(len(data)) + data
        # a node that listens is told of new processes, and connects to them soon; another one has to look
        is_there = address is None or address in self._peers
        if self._server is not None and self._sending is None and is_there:
            peers = self._write(data, address)
            if not any(peer.waiting > FULL for peer in peers):
                return None
            data = b""  # the others wait
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._late.append((data, address, done))
        if self._sending is None:
            self._sending = begin(self._send_late())
        return done

    def _write(self, data: bytes, address: str | None) -> list[Peer]:
        to = self._peers if address is None else {address} & self._peers.keys()
        peers = [self._peers[name] for name in to]
        for peer in peers:
            peer.write(data)
        return peers

    async def _send_late(self) -> None:
        try:
            while self._late:
                data, address, done = self._late[0]
                if self._server is None or address not in (None, *self._peers):
                    await self._look()
                for peer in self._write(data, address):
                    await peer.flushed()
                self._late.popleft()
                if not done.done():
                    done.set_result(None)
        finally:
            self._sending = None
            if self._server is None:  # it hears of no process that ends or begins
                for peer in list(self._peers.values()):
                    peer.close()

    async def neighbours(self) -> list[str]:
        """Return the addresses of the other processes that serve clients."""
        found = neighbours() if self._server is None else await self._look()
        return [one.address for one in found if one.serves]

    # --------------------------------------------------------------- connections

    def _connected(self) -> None:
        """Look who is there: somebody has connected."""
        self._is_new = True
        if self._looking is None or self._looking.done():
            self._looking = begin(self._look_later())

    async def _look_later(self) -> None:
        while self._is_new:  # who connects meanwhile may not be seen yet
            self._is_new = False
            await self._look()

    async def _look(self) -> list[Neighbour]:
        """Connect to the processes that are new, and return all."""
        async with self._looks:
            found = neighbours()
            if self._carries:
                new = [n.address for n in found if n.address not in self._peers]
                await asyncio.gather(*map(self._connect, new))
        return found

    async def _connect(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):  # it has just ended, or begins
            async with asyncio.timeout(TIMEOUT):
                await loop.create_unix_connection(
                    lambda: Peer(address, self._peers), address
                )


class Peer(asyncio.Protocol):
    """A connection to the socket of another process, for what this one sends."""

    _transport: asyncio.WriteTransport

    def __init__(self, address: str, those: dict[str, Peer]) -> None:
        self._address = address
        self._those = those
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

    def write(self, data: bytes) -> None:
        if self.waiting > WAITING:
            logger.warning("a process on the local bus does not read, it is left out")
            self._forget()
            self._transport.abort()
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._empty = self._empty or asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        empty, self._empty = self._empty, None
        if empty is not None:
            empty.set_result(None)

    async def flushed(self) -> None:
        """Wait until the machine has all that was written, TIMEOUT at most."""
        if self._empty is not None:
            await asyncio.wait({self._empty}, timeout=TIMEOUT)

    def close(self) -> None:
        self._forget()  # at once: what is sent meanwhile needs another connection
        self._transport.close()


class Hearing(asyncio.Protocol):
    """A connection that another process has made, with what it sends."""

    def __init__(
        self,
        take: Callable[[Message], None],
        connected: Callable[[], None],
        those: set[Hearing],
    ) -> None:
        self._take = take
        self._connected = connected
        self._those = those
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        self._those.add(self)
        if is_of_this_user(transport):
            self._connected()
        else:
            logger.warning("another user has connected to the local bus: refused")
            transport.abort()

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
                self._take(message)
        except Exception as error:
            logger.warning("the local bus drops a connection: %s", describe(error))
            return self.close()
        del self._data[:at]

    def close(self) -> None:
        self._transport.abort()


def is_of_this_user(transport: asyncio.Transport) -> bool:
    """Return False if the other side runs as another user; the folder keeps others out already."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    own = transport.get_extra_info("socket")
    # a copy: uvloop gives a socket that cannot be asked
    with socket.socket(fileno=os.dup(own.fileno())) as connection:
        size = struct.calcsize("3i")
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return bool(struct.unpack("3i", found)[1] == os.getuid())
