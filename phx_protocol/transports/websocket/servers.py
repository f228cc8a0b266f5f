"""The adapters to the ASGI servers: close codes, back-pressure, buffered bytes.

The messages of ASGI are not enough. Daphne raises an error for the close codes of the protocol
(1001, 1002, 1009, 1011, 1012, 1013) and never waits for a slow client. A stalled connection
must be aborted, and ASGI has no message for that. So an adapter uses the server's own object if
it can be found behind ``send``, even behind middleware that wraps ``send``. If it cannot be
found, we log what is missing. Messages still go through the middleware. No other module knows
anything about a server, except ``wrappers``, which finds its object.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import types
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ...logs import get_logger
from .wrappers import below, server_object, unwrap

logger = get_logger("phx_protocol.transport")

#: bytes that the server reads at once from a client that floods it
STEP = 4096
#: bytes that Daphne always reads at once, because it needs ten times as long for a frame: the
#: second number while a frame comes that is larger than it, else the first
DAPHNE_STEP, DAPHNE_LARGE_STEP = 1024, 8192
#: bytes that the kernel may buffer of a client whose flood is over; the kernel's own limit may
#: be smaller
ENOUGH = 1024 * 1024

#: the key in the scope's state under which a server offers its RawTransport
WIRE = "phx_protocol.wire"

Send = Callable[[dict[str, Any]], Awaitable[None]]


class FrameTransport(Protocol):
    """The methods of an asyncio transport that writing finished frames needs."""

    def write(self, data: bytes) -> None: ...
    def writelines(self, several: list[bytes]) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...


class RawTransport:
    """A server's WebSocket as it offers it beyond ASGI: reads and writes without a coroutine."""

    __slots__ = ("transport", "take")

    def __init__(self, transport: asyncio.Transport) -> None:
        #: finished frames are written to it
        self.transport = transport
        #: called first with a text message that comes while no other waits for ``receive``;
        #: it returns True if it has handled the message
        self.take: Callable[[str], bool] | None = None


#: the parts of a message in several frames are joined when there are so many
MOST_PARTS = 1024


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

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, if the server can."""


class UvicornAdapter(ServerAdapter):
    """The adapter to uvicorn: ``send`` is a method of the protocol object with the transport."""

    missing = ""

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self.transport = protocol.transport
        self._protocol = protocol
        self._size_before: int | None = None

    def buffered_bytes(self) -> int:
        return int(self.transport.get_write_buffer_size())

    def limit_frames(self, size: int) -> None:
        # only the sans-I/O protocol of websockets has such a limit; wsproto reads the whole frame
        protocol: Any = self._protocol
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
            # asyncio's own transport reads this many bytes from the kernel at once
            if self._size_before is None:
                self._size_before = self.transport.max_size
            self.transport.max_size = STEP if steps else self._size_before
            return
        # uvloop always reads 256 kB at once: only the kernel's buffer can be made smaller. If the
        # connection is gone already it raises ValueError.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            connection = self.transport.get_extra_info("socket")
            # after this the kernel does not grow the buffer any more, so make it large enough
            # for a long round trip
            size = STEP if steps else ENOUGH
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            if not steps:
                # Linux keeps the window as small as the buffer was, unless this option changes it
                clamp = getattr(socket, "TCP_WINDOW_CLAMP", None)
                if clamp is not None:
                    connection.setsockopt(socket.IPPROTO_TCP, clamp, size)

    def abort(self) -> None:
        self.transport.abort()


class UvicornFrameAdapter(UvicornAdapter):
    """The adapter to uvicorn with ``contrib.uvicorn``: we may write to its transport."""

    def __init__(self, send: Send, wire: RawTransport, protocol: Any = None) -> None:
        ServerAdapter.__init__(self, send)
        self.transport = self.frames = wire.transport
        self._wire = wire
        self._protocol = protocol
        self._size_before: int | None = None

    def listen(self, take: Callable[[str], bool] | None) -> None:
        self._wire.take = take


def joined(parts: list[Any]) -> list[Any]:
    """Return the parts of a message that is still coming, joined into one if they are many.

    A bytes object of two bytes needs twenty times as much memory.
    """
    return parts if len(parts) < MOST_PARTS else [b"".join(parts)]


class DaphneTransport:
    """Twisted's transport below Daphne's protocol object, with the methods of FrameTransport."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def writelines(self, several: list[bytes]) -> None:
        self._protocol.transport.writeSequence(several)

    def is_closing(self) -> bool:
        return bool(self._protocol.state != self._protocol.STATE_OPEN)

    def get_write_buffer_size(self) -> int:
        return _twisted_bytes(self._protocol.transport)


def _twisted_bytes(transport: Any) -> int:
    """Return the bytes that Twisted keeps for a client; with TLS, those encrypted already."""
    while not hasattr(transport, "dataBuffer"):
        transport = getattr(transport, "transport", None)
        if transport is None:
            return 0
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]


class DaphneAdapter(ServerAdapter):
    """The adapter to Daphne: ``send`` is a partial, its first argument is autobahn's protocol."""

    missing = ""
    waits = False

    def __init__(self, send: Send, protocol: Any, is_wrapped: bool) -> None:
        super().__init__(send)
        self.protocol = protocol
        self._bytes = DaphneTransport(protocol)
        self._is_paused = False
        self._is_held = False
        if not is_wrapped:
            # autobahn would build the frame again for each client, and format log lines for it
            self.frames = self._bytes

    async def close(self, code: int, timeout: float) -> None:
        # websocket.close reaches autobahn's sendClose, which takes 1000 and 3000-4999 only
        if self.protocol.state == self.protocol.STATE_OPEN:
            # autobahn's own second is too short for a client that has a lot to read first
            self.protocol.closeHandshakeTimeout = timeout
            # Daphne would keep messages that still come, but nothing receives them any more
            self.protocol.muted = True
            if self._is_paused:
                self._resume()
            self.protocol.sendCloseFrame(code=code, isReply=False)

    def buffered_bytes(self) -> int:
        return self._bytes.get_write_buffer_size()

    def limit_frames(self, size: int) -> None:
        protocol = self.protocol
        protocol.transport.bufferSize = DAPHNE_STEP
        self._pause_at_messages()
        limit = min(size, protocol.maxFramePayloadSize or size)
        protocol.maxFramePayloadSize = limit
        # do not set autobahn's limit for whole messages: it would limit what we send as well
        begin = protocol.onMessageFrameBegin

        def limited(length: int) -> None:
            if 0 < length <= limit < protocol.message_data_total_length + length:
                length = limit + 1  # so that autobahn refuses it with its usual error
            protocol.message_data = joined(protocol.message_data)
            is_large = length > DAPHNE_LARGE_STEP
            step = DAPHNE_LARGE_STEP if is_large else DAPHNE_STEP
            protocol.transport.bufferSize = step
            begin(length)

        protocol.onMessageFrameBegin = limited

    def _pause_at_messages(self) -> None:
        """Stop reading while messages wait for ``receive``: Daphne would keep any number of them."""
        protocol = self.protocol
        on_message = protocol.onMessage

        def pausing(payload: Any, isBinary: bool) -> None:
            on_message(payload, isBinary)
            if not self._is_paused and not protocol.muted:
                self._is_paused = True
                protocol.transport.pauseProducing()

        protocol.onMessage = pausing

    def read_on(self) -> None:
        if self._is_paused and not self._is_held:
            if self.protocol.application_queue.empty():
                self._resume()

    def hold(self, is_held: bool) -> None:
        self._is_held = is_held
        if is_held:
            self._is_paused = True
            self.protocol.transport.pauseProducing()

    def _resume(self) -> None:
        self._is_paused = False
        self.protocol.transport.resumeProducing()

    def abort(self) -> None:
        self.protocol.transport.abortConnection()


class HttpAdapter:
    """The adapter to the server of an HTTP request of which we know only ASGI."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def drops_what_it_is_given(self) -> bool:
        """Return whether the server knows that the client has gone, and so drops the answer.

        ``http.disconnect`` arrives some ticks of the loop later.
        """
        return False

    async def drain(self) -> None:
        """Wait while the client is behind with the part of the answer that was written so far."""
        # the answer is not complete, so a server that waits for its client waits here
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, if the server can."""


class UvicornHttpAdapter(HttpAdapter):
    def __init__(self, send: Send, cycle: Any) -> None:
        super().__init__(send)
        self._cycle = cycle

    def drops_what_it_is_given(self) -> bool:
        return bool(self._cycle.transport.is_closing() or self._cycle.disconnected)

    def abort(self) -> None:
        self._cycle.transport.abort()


class DaphneHttpAdapter(HttpAdapter):
    """The adapter to Daphne: ``send`` never waits, so `drain` polls Twisted's buffer instead."""

    #: seconds between two looks at the buffer; the last one repeats
    LOOKS = (0.005, 0.02, 0.05, 0.1)

    def __init__(self, send: Send, request: Any) -> None:
        super().__init__(send)
        self._request = request
        # keep it: a finished request has no channel any more
        self._transport = request.channel.transport

    def drops_what_it_is_given(self) -> bool:
        return bool(self._request._disconnected)

    async def drain(self) -> None:
        looks = 0
        while _twisted_bytes(self._transport) and not self.drops_what_it_is_given():
            await asyncio.sleep(self.LOOKS[min(looks, len(self.LOOKS) - 1)])
            looks += 1

    def abort(self) -> None:
        self._transport.abortConnection()


def http_adapter_for(scope: dict[str, Any], send: Send) -> HttpAdapter:
    """Return the adapter to the server that answers an HTTP request with `send`."""
    owner, _ = server_object(scope, unwrap(send))
    if hasattr(owner, "disconnected") and hasattr(owner.transport, "is_closing"):
        return UvicornHttpAdapter(send, owner)
    if hasattr(owner, "_disconnected") and hasattr(owner.channel, "transport"):
        return DaphneHttpAdapter(send, owner)
    return HttpAdapter(send)


def adapter_for(scope: dict[str, Any], send: Send) -> ServerAdapter:
    """Return the adapter to the server behind `send`; log once what is missing."""
    send = unwrap(send)
    adapter = _adapter(scope, send)
    if adapter.missing and scope.get("type") == "websocket":
        _say_once(_name(send), adapter.missing, _is_silent(scope, send))
    return adapter


def _name(send: Any) -> str:
    """Return the dotted name of the object or function that a ``send`` belongs to."""
    if isinstance(send, functools.partial):
        send = send.func
    if isinstance(send, types.BuiltinMethodType | types.MethodType):
        owner = type(send.__self__)
        return f"{owner.__module__}.{owner.__qualname__}"
    kind = send if hasattr(send, "__qualname__") else type(send)
    return f"{kind.__module__}.{kind.__qualname__}"


#: modules of servers and tests behind whose ``send`` there is no object that we could use
SILENT = ("hypercorn.", "granian.", "phx_protocol.testing.")
#: the same if no server made the scope: then the queue of a communicator counts too
COMMUNICATOR = (*SILENT, "asyncio.queues.")


def _is_silent(scope: dict[str, Any], send: Any) -> bool:
    names = SILENT if "asgi" in scope else COMMUNICATOR
    return any(_name(inner).startswith(names) for inner in below(send))


@functools.lru_cache(maxsize=32)
def _say_once(name: str, missing: str, is_silent: bool) -> None:
    if is_silent:
        logger.info("of the ASGI server nothing is known but ASGI: %s", missing)
        return
    hides = f"middleware hides the ASGI server ({name}): {missing}"
    hidden_by.append(hides)
    logger.warning("%s", hides)


#: the warnings of this process about middleware that hides its server
hidden_by: list[str] = []


def _adapter(scope: dict[str, Any], send: Any) -> ServerAdapter:
    owner, is_wrapped = server_object(scope, send)
    adapter = _adapter_of(scope, send, owner, is_wrapped)
    adapter.is_wrapped = is_wrapped
    return adapter


def _adapter_of(
    scope: dict[str, Any], send: Any, owner: Any, is_wrapped: bool
) -> ServerAdapter:
    wire = (scope.get("state") or {}).get(WIRE)
    if wire is not None:
        return UvicornFrameAdapter(send, wire, owner)
    if owner is None:
        return ServerAdapter(send)
    if hasattr(getattr(owner, "transport", None), "get_write_buffer_size"):
        return UvicornAdapter(send, owner)
    if _is_daphne(owner):
        return DaphneAdapter(send, owner, is_wrapped)
    return ServerAdapter(send)


def _is_daphne(protocol: Any) -> bool:
    parts = ("sendCloseFrame", "STATE_OPEN", "transport", "state")
    return all(hasattr(protocol, part) for part in parts) and hasattr(
        protocol.transport, "dataBuffer"
    )
