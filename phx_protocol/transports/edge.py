"""What each ASGI server can really do: close codes, back-pressure, buffered bytes.

The ASGI messages are all that an application should need. They are not: Daphne raises for
the close codes of the protocol (1001, 1002, 1009, 1011, 1012, 1013) and never waits for a
slow client, and a stalled connection must be aborted, which no message says. So where
``send`` lets us see the server's own object we use it, and where it does not we say what
is missing. Nothing outside this module knows a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..logs import get_logger

logger = get_logger("phx_protocol.transport")

#: bytes that the server reads at once of a client that floods it
STEP = 4096

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


def unwrap(send: Any) -> Any:
    """The server's own ``send`` below the wrapper of Channels' session middleware."""
    while (
        real := getattr(getattr(send, "__self__", None), "real_send", None)
    ) is not None:
        send = real
    return send


class Edge:
    """A server of which nothing is known but ASGI: hypercorn, granian, a test."""

    #: what a user can be told that this server lacks
    lacks = "bytes that the server has buffered are not seen; a stalled connection is not aborted"

    #: where finished WebSocket frames can be written, if the server lets us
    frames: Frames | None = None

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

    def read_in_steps(self) -> None:
        """Have the server read less of this client at once, where that is possible.

        A server parses all frames that it has read before anybody else has a turn.
        """

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered, where that is possible."""


class UvicornEdge(Edge):
    """uvicorn: ``send`` is a method of the protocol object, which has the transport."""

    lacks = ""

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self.transport = send.__self__.transport  # type: ignore[attr-defined]

    def buffered_bytes(self) -> int:
        return int(self.transport.get_write_buffer_size())

    def limit_frames(self, size: int) -> None:
        # the sans-I/O protocol of websockets; with wsproto the frame comes to us whole
        parser: Any = getattr(self.send.__self__, "conn", None)  # type: ignore[attr-defined]
        if hasattr(parser, "max_message_size"):
            parser.max_message_size = min(size, parser.max_message_size or size)

    def read_in_steps(self) -> None:
        # uvloop always reads 256 kB at once: only what the kernel keeps can be less. Of a
        # connection that is gone already it raises ValueError.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STEP)

    def abort(self) -> None:
        self.transport.abort()


class FramesEdge(UvicornEdge):
    """uvicorn with ``contrib.uvicorn``: its transport is ours to write to."""

    def __init__(self, send: Send, wire: Wire) -> None:
        Edge.__init__(self, send)
        self.transport = self.frames = wire.transport
        self._wire = wire

    def listen(self, take: Callable[[str], bool] | None) -> None:
        self._wire.take = take


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
        transport = self._protocol.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]


class DaphneEdge(Edge):
    """Daphne: ``send`` is a partial with the autobahn protocol as its first argument."""

    lacks = ""

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self.protocol = send.args[0]  # type: ignore[attr-defined]
        # autobahn frames a message for each client anew, and logs what it would have logged
        self.frames = DaphneFrames(self.protocol)

    async def close(self, code: int, timeout: float) -> None:
        # websocket.close reaches autobahn's sendClose, which takes 1000 and 3000-4999 only
        if self.protocol.state == self.protocol.STATE_OPEN:
            # autobahn's own second is too short for a client that has a lot to read first
            self.protocol.closeHandshakeTimeout = timeout
            self.protocol.sendCloseFrame(code=code, isReply=False)

    def buffered_bytes(self) -> int:
        assert self.frames is not None
        return self.frames.get_write_buffer_size()

    def limit_frames(self, size: int) -> None:
        limit = self.protocol.maxFramePayloadSize or size
        self.protocol.maxFramePayloadSize = min(size, limit)

    def read_in_steps(self) -> None:
        self.protocol.transport.bufferSize = STEP

    def abort(self) -> None:
        self.protocol.transport.abortConnection()


def drops_what_it_is_given(send: Send) -> bool:
    """Whether the server of an HTTP request knows that the client has gone.

    It drops what it is given from then on; ``http.disconnect`` arrives some turns of the loop
    later. Of other servers than uvicorn and Daphne only the latter is known.
    """
    send = unwrap(send)
    if isinstance(send, functools.partial) and send.args:
        return bool(getattr(send.args[0], "_disconnected", False))  # Twisted's Request
    cycle = getattr(send, "__self__", None)  # uvicorn's
    transport = getattr(cycle, "transport", None)
    if transport is None or not hasattr(transport, "is_closing"):
        return False
    return bool(transport.is_closing() or getattr(cycle, "disconnected", False))


def edge_for(scope: dict[str, Any], send: Send) -> Edge:
    """The edge of the server behind `send`; what it lacks is said once."""
    edge = _edge(scope, unwrap(send))
    if edge.lacks:
        _say_once(edge.lacks)
    return edge


@functools.cache
def _say_once(lacks: str) -> None:
    logger.info("of this ASGI server nothing is known but ASGI: %s", lacks)


def _edge(scope: dict[str, Any], send: Any) -> Edge:
    wire = (scope.get("state") or {}).get(WIRE)
    if wire is not None:
        return FramesEdge(send, wire)
    owner = getattr(send, "__self__", None)
    if owner is not None and type(owner).__module__.startswith("uvicorn."):
        if hasattr(getattr(owner, "transport", None), "get_write_buffer_size"):
            return UvicornEdge(send)
    if isinstance(send, functools.partial) and send.args:
        if _is_daphne(send.args[0]):
            return DaphneEdge(send)
    return Edge(send)


def _is_daphne(protocol: Any) -> bool:
    parts = ("sendCloseFrame", "STATE_OPEN", "transport", "state")
    return all(hasattr(protocol, part) for part in parts) and hasattr(
        protocol.transport, "dataBuffer"
    )
