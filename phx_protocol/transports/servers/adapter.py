"""ServerAdapter and HttpAdapter: what a transport asks of a server; these two know nothing but ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

from ..http import Send

#: bytes that a server reads at once from a client that floods it
READ_SIZE = 4096
#: the parts of a message in several frames are joined when there are so many
MOST_PARTS = 1024
#: the state of a TCP connection that neither side has closed, in Linux' TCP_INFO
ESTABLISHED = 1


class FrameTransport(Protocol):
    """The methods of an asyncio transport that writing finished frames needs."""

    def write(self, data: bytes) -> None: ...
    def writelines(self, several: list[bytes]) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...


class RawTransport:
    """A server's WebSocket as it offers it beyond ASGI: reads and writes without a coroutine."""

    __slots__ = ("transport", "take", "most")

    def __init__(self, transport: asyncio.Transport) -> None:
        #: finished frames are written to it
        self.transport = transport
        #: called first with a text message that comes while no other waits for ``receive``;
        #: it returns True if it has handled the message
        self.take: Callable[[str], bool] | None = None
        #: the most bytes of a message; None for the server's own limit
        self.most: int | None = None


class ServerAdapter:
    """The adapter to a server of which we know only ASGI: hypercorn, granian, a test."""

    #: what is missing with this server, in the words of the log
    missing = "bytes that the server has buffered are not seen; a stalled connection is not aborted"

    #: finished WebSocket frames can be written to it; None if the server does not allow that
    frames: FrameTransport | None = None

    #: True if ``send`` waits while the client is behind
    waits = True
    #: True if ``send`` may be code of the application, which may have context variables
    is_wrapped = True

    def __init__(self, send: Send) -> None:
        self.send = send

    async def close(self, code: int, timeout: float) -> None:
        message = {"type": "websocket.close", "code": code}
        try:
            await self.send(message)
        except Exception:
            # Daphne behind an unknown wrapper accepts only the codes of applications
            await self.send({**message, "code": 3000 + code})

    def listen(self, take: Callable[[str], bool] | None) -> None:
        """Let the server pass text messages to `take` as they come (see RawTransport), if it can."""

    def buffered_bytes(self) -> int:
        """Return the bytes that the server keeps for the client; 0 if that is unknown."""
        return 0

    def limit_frames(self, size: int) -> None:
        """Let the server refuse a frame beyond `size` bytes before it has read all of it."""

    def read_in_steps(self, steps: bool) -> None:
        """Let the server read less from this client at once (or as before), if it can.

        A server parses all frames that it has read before any other connection runs.
        """

    def read_on(self) -> None:
        """Let the server read from this client again: all messages so far are handled."""

    def hold(self, is_held: bool) -> None:
        """Stop the server from reading from this client, or let it read again.

        Only a server needs this that reads on although nothing waits in ``receive``.
        """

    def is_gone(self) -> bool:
        """Return True if the client has closed the connection, also if the server does not read from it.

        False if that is unknown.
        """
        return False

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, if the server can."""

    def forget(self) -> None:
        """Free what the server keeps of a connection that has ended.

        Its objects refer to each other: the garbage collector may come much later.
        """


class HttpAdapter:
    """The adapter to the server of an HTTP request of which we know only ASGI."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def drops_what_it_is_given(self) -> bool:
        """Return whether the server knows that the client has gone, and so drops the answer.

        ``http.disconnect`` arrives some ticks of the loop later.
        """
        return False

    def forget(self) -> None:
        """Free what the server keeps of a request that is answered."""

    async def drain(self) -> None:
        """Wait while the client is behind with the part of the answer that was written so far."""
        # the answer is not complete, so a server that waits for its client waits here
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, if the server can."""


def emptied(queue: Any) -> None:
    """Take all out of `queue`, an ``asyncio.Queue`` or our Inbox."""
    while not queue.empty():
        queue.get_nowait()


def joined(parts: list[Any]) -> list[Any]:
    """Return the parts of a message that is still coming, joined into one if they are many.

    A bytes object of two bytes needs twenty times as much memory.
    """
    return parts if len(parts) < MOST_PARTS else [b"".join(parts)]


def is_closed_by_peer(connection: Any) -> bool:
    """Return True if the other side of the TCP socket `connection` has closed it. Linux knows that."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state[0] != ESTABLISHED)
    return False
