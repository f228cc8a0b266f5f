"""What each ASGI server can really do: close codes, back-pressure, buffered bytes.

The ASGI messages are all that an application should need. They are not: Daphne raises for
the close codes of the protocol (1001, 1002, 1009, 1011, 1012, 1013) and never waits for a
slow client, and a stalled connection must be aborted, which no message says. So where
``send`` lets us see the server's own object we use it, through what middleware wraps around
it too, and where it does not we say what is missing. Messages take the way through the
middleware. Nothing outside this module knows a server, but for ``wrappers``, which finds its object.
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

#: bytes that the server reads at once of a client that floods it
STEP = 4096
#: the same of Daphne, always, which takes ten times as long for a frame: of frames that are smaller
#: than the second, and of others
DAPHNE_STEP, DAPHNE_LARGE_STEP = 1024, 8192
#: bytes that the kernel may keep of a client that has flooded it before; where its own limit says
#: so it keeps less
ENOUGH = 1024 * 1024

#: the key in the scope's state under which a server offers its Wire
WIRE = "phx_protocol.wire"

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Frames(Protocol):
    """Where finished frames are written: what an asyncio transport has of it."""

    def write(self, data: bytes) -> None: ...
    def writelines(self, several: list[bytes]) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...


class Wire:
    """What a server can offer of a WebSocket beyond ASGI, both ways without a coroutine."""

    __slots__ = ("transport", "take")

    def __init__(self, transport: asyncio.Transport) -> None:
        #: where finished frames are written
        self.transport = transport
        #: who is asked first about a text message that comes while none waits for ``receive``;
        #: True: it was taken
        self.take: Callable[[str], bool] | None = None


#: parts of a message in several frames that are kept as they came
MOST_PARTS = 1024


class Edge:
    """A server of which nothing is known but ASGI: hypercorn, granian, a test."""

    #: what a user can be told that this server lacks
    lacks = "bytes that the server has buffered are not seen; a stalled connection is not aborted"

    #: where finished WebSocket frames can be written, if the server lets us
    frames: Frames | None = None

    #: whether ``send`` waits while the client is behind
    waits = True
    #: whether ``send`` may be somebody's own code, which has context variables
    is_wrapped = True

    def __init__(self, send: Send) -> None:
        self.send = send

    async def close(self, code: int, timeout: float) -> None:
        message = {"type": "websocket.close", "code": code}
        try:
            await self.send(message)
        except Exception:
            # Daphne behind an unknown wrapper: an application's own code it does take
            await self.send({**message, "code": 3000 + code})

    def listen(self, take: Callable[[str], bool] | None) -> None:
        """Have text messages given to `take` as they come (see Wire), where that is possible."""

    def buffered_bytes(self) -> int:
        """Bytes that the server keeps for the client, as far as that can be known."""
        return 0

    def limit_frames(self, size: int) -> None:
        """Have the server refuse frames beyond `size` bytes, before it has read all of one."""

    def read_in_steps(self, steps: bool) -> None:
        """Have the server read less of this client at once, or as before, where that is possible.

        A server parses all frames that it has read before anybody else has a turn.
        """

    def read_on(self) -> None:
        """Have the server read more of this client, if it does not: all messages so far are taken."""

    def hold(self, is_held: bool) -> None:
        """Have the server read nothing of this client for a while, where it reads on although
        nobody waits for ``receive``."""

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, where that is possible."""


class UvicornEdge(Edge):
    """uvicorn: ``send`` is a method of the protocol object, which has the transport."""

    lacks = ""

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self.transport = protocol.transport
        self._protocol = protocol
        self._size_before: int | None = None

    def buffered_bytes(self) -> int:
        return int(self.transport.get_write_buffer_size())

    def limit_frames(self, size: int) -> None:
        # the sans-I/O protocol of websockets; with wsproto the frame comes to us whole
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
            # asyncio's own, which asks the kernel for so much
            if self._size_before is None:
                self._size_before = self.transport.max_size
            self.transport.max_size = STEP if steps else self._size_before
            return
        # uvloop always reads 256 kB at once: only what the kernel keeps can be less. Of a
        # connection that is gone already it raises ValueError.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            connection = self.transport.get_extra_info("socket")
            # the kernel sizes it by itself no more, so it gets what is enough for any distance
            size = STEP if steps else ENOUGH
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            if not steps:
                # Linux keeps the window as small as the buffer was, unless it is told
                clamp = getattr(socket, "TCP_WINDOW_CLAMP", None)
                if clamp is not None:
                    connection.setsockopt(socket.IPPROTO_TCP, clamp, size)

    def abort(self) -> None:
        self.transport.abort()


class FramesEdge(UvicornEdge):
    """uvicorn with ``contrib.uvicorn``: its transport is ours to write to."""

    def __init__(self, send: Send, wire: Wire, protocol: Any = None) -> None:
        Edge.__init__(self, send)
        self.transport = self.frames = wire.transport
        self._wire = wire
        self._protocol = protocol
        self._size_before: int | None = None

    def listen(self, take: Callable[[str], bool] | None) -> None:
        self._wire.take = take


def joined(parts: list[Any]) -> list[Any]:
    """The parts of a message that is still coming, few of them: an object of two bytes costs
    twenty times as much."""
    return parts if len(parts) < MOST_PARTS else [b"".join(parts)]


class DaphneFrames:
    """Twisted's transport below Daphne's protocol object."""

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
    """Bytes that Twisted keeps for a client; below TLS, of what is encrypted already."""
    while not hasattr(transport, "dataBuffer"):
        transport = getattr(transport, "transport", None)
        if transport is None:
            return 0
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]


class DaphneEdge(Edge):
    """Daphne: ``send`` is a partial with the autobahn protocol as its first argument."""

    lacks = ""
    waits = False

    def __init__(self, send: Send, protocol: Any, is_wrapped: bool) -> None:
        super().__init__(send)
        self.protocol = protocol
        self._bytes = DaphneFrames(protocol)
        self._is_paused = False
        self._is_held = False
        if not is_wrapped:
            # autobahn frames a message for each client anew, and logs what it would have logged
            self.frames = self._bytes

    async def close(self, code: int, timeout: float) -> None:
        # websocket.close reaches autobahn's sendClose, which takes 1000 and 3000-4999 only
        if self.protocol.state == self.protocol.STATE_OPEN:
            # autobahn's own second is too short for a client that has a lot to read first
            self.protocol.closeHandshakeTimeout = timeout
            # what still comes would be kept, and nobody takes it any more
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
        # autobahn's limit for a message of several frames would be one for what we send as well
        begin = protocol.onMessageFrameBegin

        def limited(length: int) -> None:
            if 0 < length <= limit < protocol.message_data_total_length + length:
                length = limit + 1  # so that autobahn refuses it, with its own words
            protocol.message_data = joined(protocol.message_data)
            is_large = length > DAPHNE_LARGE_STEP
            step = DAPHNE_LARGE_STEP if is_large else DAPHNE_STEP
            protocol.transport.bufferSize = step
            begin(length)

        protocol.onMessageFrameBegin = limited

    def _pause_at_messages(self) -> None:
        """Read nothing more while messages wait for ``receive``: Daphne keeps as many as come."""
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


class HttpEdge:
    """The server of an HTTP request, of which nothing is known but ASGI."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def drops_what_it_is_given(self) -> bool:
        """Whether the server knows that the client has gone.

        It drops what it is given from then on; ``http.disconnect`` arrives some turns of the
        loop later.
        """
        return False

    async def drain(self) -> None:
        """Wait while the client is behind with what was written of the answer so far."""
        # an answer that is not complete: a server that waits for its client does it here
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, where that is possible."""


class UvicornHttpEdge(HttpEdge):
    def __init__(self, send: Send, cycle: Any) -> None:
        super().__init__(send)
        self._cycle = cycle

    def drops_what_it_is_given(self) -> bool:
        return bool(self._cycle.transport.is_closing() or self._cycle.disconnected)

    def abort(self) -> None:
        self._cycle.transport.abort()


class DaphneHttpEdge(HttpEdge):
    """``send`` never waits: what Twisted keeps for the client is looked at instead."""

    #: seconds between two looks, from the first one on
    LOOKS = (0.005, 0.02, 0.05, 0.1)

    def __init__(self, send: Send, request: Any) -> None:
        super().__init__(send)
        self._request = request
        # the request has it no more when it is finished
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


def http_edge_for(scope: dict[str, Any], send: Send) -> HttpEdge:
    """The edge of the server that answers an HTTP request with `send`."""
    owner, _ = server_object(scope, unwrap(send))
    if hasattr(owner, "disconnected") and hasattr(owner.transport, "is_closing"):
        return UvicornHttpEdge(send, owner)
    if hasattr(owner, "_disconnected") and hasattr(owner.channel, "transport"):
        return DaphneHttpEdge(send, owner)
    return HttpEdge(send)


def edge_for(scope: dict[str, Any], send: Send) -> Edge:
    """The edge of the server behind `send`; what it lacks is said once."""
    send = unwrap(send)
    edge = _edge(scope, send)
    if edge.lacks and scope.get("type") == "websocket":
        _say_once(_name(send), edge.lacks, _is_silent(scope, send))
    return edge


def _name(send: Any) -> str:
    """The name of the owner of a ``send``, as far as it tells."""
    if isinstance(send, functools.partial):
        send = send.func
    if isinstance(send, types.BuiltinMethodType | types.MethodType):
        owner = type(send.__self__)
        return f"{owner.__module__}.{owner.__qualname__}"
    kind = send if hasattr(send, "__qualname__") else type(send)
    return f"{kind.__module__}.{kind.__qualname__}"


#: whose ``send`` we know by its name, and that it tells us nothing: of servers, and of tests
SILENT = ("hypercorn.", "granian.", "phx_protocol.testing.")
#: where no server has made the scope, the queue of a communicator too
COMMUNICATOR = (*SILENT, "asyncio.queues.")


def _is_silent(scope: dict[str, Any], send: Any) -> bool:
    names = SILENT if "asgi" in scope else COMMUNICATOR
    return any(_name(inner).startswith(names) for inner in below(send))


@functools.lru_cache(maxsize=32)
def _say_once(name: str, lacks: str, is_silent: bool) -> None:
    if is_silent:
        logger.info("of the ASGI server nothing is known but ASGI: %s", lacks)
        return
    hides = f"middleware hides the ASGI server ({name}): {lacks}"
    hidden_by.append(hides)
    logger.warning("%s", hides)


#: what this process has logged of middleware that hides its server
hidden_by: list[str] = []


def _edge(scope: dict[str, Any], send: Any) -> Edge:
    owner, is_wrapped = server_object(scope, send)
    edge = _edge_of(scope, send, owner, is_wrapped)
    edge.is_wrapped = is_wrapped
    return edge


def _edge_of(scope: dict[str, Any], send: Any, owner: Any, is_wrapped: bool) -> Edge:
    wire = (scope.get("state") or {}).get(WIRE)
    if wire is not None:
        return FramesEdge(send, wire, owner)
    if owner is None:
        return Edge(send)
    if hasattr(getattr(owner, "transport", None), "get_write_buffer_size"):
        return UvicornEdge(send, owner)
    if _is_daphne(owner):
        return DaphneEdge(send, owner, is_wrapped)
    return Edge(send)


def _is_daphne(protocol: Any) -> bool:
    parts = ("sendCloseFrame", "STATE_OPEN", "transport", "state")
    return all(hasattr(protocol, part) for part in parts) and hasattr(
        protocol.transport, "dataBuffer"
    )
