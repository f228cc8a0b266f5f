"""The adapters to uvicorn, whose ``send`` is a method of the object with the transport."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from ..http import Send
from .adapter import (
    READ_SIZE,
    HttpAdapter,
    RawTransport,
    ServerAdapter,
    emptied,
    is_closed_by_peer,
    joined,
)
from .closing import ClosingReader

#: the key in the scope's state under which ``contrib.uvicorn`` offers a RawTransport
RAW_TRANSPORT = "phx_protocol.raw_transport"
#: bytes that the kernel may buffer of a client whose flood is over; the kernel's own limit may
#: be smaller
ENOUGH = 1024 * 1024


class UvicornAdapter(ServerAdapter):
    """The adapter to uvicorn: `protocol` is its object, with the transport below it.

    With ``contrib.uvicorn`` there is a `raw` transport too, and finished frames may be written to
    it. Then `protocol` may be None: middleware hides it.
    """

    missing = ""

    def __init__(
        self, send: Send, protocol: Any, raw: RawTransport | None = None
    ) -> None:
        super().__init__(send)
        self.frames = None if raw is None else raw.transport
        self.transport: Any = protocol.transport if raw is None else raw.transport
        self._raw = raw
        self._protocol = protocol
        self._size_before: int | None = None

    @staticmethod
    def knows(owner: Any) -> bool:
        """Return whether `owner`, the object behind ``send``, is uvicorn's."""
        transport = getattr(owner, "transport", None)
        return hasattr(transport, "get_write_buffer_size")

    def listen(self, take: Callable[[str], bool] | None) -> None:
        if self._raw is not None:
            self._raw.take = take

    async def close(self, code: int, timeout: float) -> None:
        await super().close(code, timeout)
        self.read_in_steps(True)
        protocol = self.transport.get_protocol()
        protocol.data_received = ClosingReader(protocol.data_received, self)
        self.transport.set_protocol(protocol)  # uvloop looks for the method only here

    def let_read(self, reads: bool) -> None:
        transport = self.transport
        if not transport.is_closing():
            transport.resume_reading() if reads else transport.pause_reading()

    def buffered_bytes(self) -> int:
        # closed twice, asyncio's transport with TLS knows its connection no more
        with contextlib.suppress(AttributeError):
            return int(self.transport.get_write_buffer_size())
        return 0

    def limit_frames(self, size: int) -> None:
        if self._raw is None:
            self._limit(self._protocol, size)
        else:
            self._raw.most = size

    def _limit(self, protocol: Any, size: int) -> None:
        # only the parser of websockets has such a limit; wsproto reads the whole frame
        parser: Any = getattr(protocol, "conn", None)
        if hasattr(parser, "max_message_size"):
            parser.max_message_size = min(size, parser.max_message_size or size)
        if hasattr(protocol, "frames") and hasattr(protocol, "handle_cont"):
            handle = protocol.handle_cont

            def handle_cont(event: Any) -> None:
                protocol.frames = joined(protocol.frames)
                handle(event)

            protocol.handle_cont = handle_cont

    def read_in_steps(self, steps: bool) -> None:
        if isinstance(getattr(self.transport, "max_size", None), int):
            self._read_less(steps)
        else:
            # if the connection is gone already, uvloop raises ValueError
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._buffer_less(steps, self.transport.get_extra_info("socket"))

    def _read_less(self, steps: bool) -> None:
        """Set how many bytes asyncio's own transport reads from the kernel at once."""
        if self._size_before is None:
            self._size_before = self.transport.max_size
        self.transport.max_size = READ_SIZE if steps else self._size_before

    def _buffer_less(self, steps: bool, connection: socket.socket) -> None:
        """Set the kernel's buffer: uvloop reads all that is in it, up to 256 kB."""
        # after this the kernel does not grow the buffer any more, so make it large enough
        # for a long round trip
        size = READ_SIZE if steps else ENOUGH
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if not steps:
            # Linux keeps the window as small as the buffer was, unless this option changes it
            clamp = getattr(socket, "TCP_WINDOW_CLAMP", None)
            if clamp is not None:
                connection.setsockopt(socket.IPPROTO_TCP, clamp, size)

    def is_gone(self) -> bool:
        transport = self.transport
        return transport.is_closing() or is_closed_by_peer(
            transport.get_extra_info("socket")
        )

    def abort(self) -> None:
        self.transport.abort()

    def forget(self) -> None:
        queue = getattr(self.transport.get_protocol(), "queue", None)
        if queue is not None:
            emptied(queue)


class UvicornHttpAdapter(HttpAdapter):
    """The adapter to a request of uvicorn: `cycle` is its object for one request and its answer."""

    def __init__(self, send: Send, cycle: Any) -> None:
        super().__init__(send)
        self._cycle = cycle

    @staticmethod
    def knows(owner: Any) -> bool:
        """Return whether `owner`, the object behind ``send``, is uvicorn's."""
        return hasattr(owner, "disconnected") and hasattr(owner.transport, "is_closing")

    def drops_what_it_is_given(self) -> bool:
        return bool(self._cycle.transport.is_closing() or self._cycle.disconnected)

    def abort(self) -> None:
        self._cycle.transport.abort()
