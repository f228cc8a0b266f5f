"""PhoenixConsumer: an ASGI WebSocket carries a Socket (``Phoenix.Transports.WebSocket``)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ...conf import options
from ...exceptions import ConnectionRefused, DecodeError
from ...logs import get_logger
from ...node.part import PARTS, Call, Part
from ...pubsub.serving import mount_socket
from ...socket.connection import Connection
from ...socket.opening import Opening
from ...socket.refusals import refusals
from ...socket.socket import Socket
from ...wire.messages import Frame
from ...wire.reasons import CloseCode, Reason
from ..authentication import bearer_token
from ..handshake import Handshake
from ..http import TEXT, Receive, Send, raw_headers, respond
from ..inbound import Turns, take
from ..lifetime import Lifetime
from .frame_writer import FrameOutgoing
from .servers import edge_for, hidden_by
from .writer import Outgoing

logger = get_logger("phx_protocol.transport")

#: the key in the scope under which the outermost application keeps the server's own ``send``
SERVER_SEND = "phx_protocol.send"
#: seconds that a close frame gets before the connection is aborted
CLOSE_TIMEOUT = 5.0
#: the name by which other nodes ask what middleware hides the server of this one
HIDDEN = "hidden_server"
NO_UPGRADE = "this is a WebSocket endpoint: an upgrade is expected"
#: close codes in which a connection ended because of what the client sent
ABNORMAL = frozenset({1002, 1003, 1007, 1009, 1011})


class PhoenixConsumer:
    """Route it as any Channels consumer: ``path("socket/websocket", PhoenixConsumer.as_asgi())``.

    ``as_asgi(socket=UserSocket)`` names the Socket class; default ``phx_protocol.Socket``. One
    coroutine for each connection, no channel on the channel layer, no task while idle.
    """

    @classmethod
    def as_asgi(cls, socket: type[Socket] = Socket) -> Callable[..., Awaitable[None]]:
        """The ASGI application for connections of `socket`."""
        mount_socket(socket)

        async def application(
            scope: dict[str, Any], receive: Receive, send: Send
        ) -> None:
            await cls(socket, scope, send)(receive)

        application.consumer_class = cls  # type: ignore[attr-defined]
        application.socket_class = socket  # type: ignore[attr-defined]
        return application

    # ------------------------------------------------------- the implementation

    name = "websocket"

    #: made when the handshake has let the client in
    connection: Connection

    def __init__(
        self, socket_class: type[Socket], scope: dict[str, Any], send: Send
    ) -> None:
        self.scope = scope
        self.socket_class = socket_class
        self.options = options(socket_class)
        self._send = send
        edge = edge_for(scope, scope.get(SERVER_SEND, send))
        way_out = Outgoing if edge.frames is None else FrameOutgoing
        self._outgoing = way_out(edge, self.options.outbound, self._overflowed)
        self.prepare = self._outgoing.prepare
        self.write = self._outgoing.write
        self._subprotocol: str | None = None  # that is accepted
        self._closing: tuple[int, Reason] | None = None
        self._code: int | None = None  # with which it ended
        self._exception: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._lifetime: Lifetime | None = None
        self.is_receiving = False  # whether it waits for the next message

    async def __call__(self, receive: Receive) -> None:
        """The life of one connection."""
        if self.scope["type"] == "http":
            return await self._answer_http()
        await receive()  # websocket.connect
        opening = await self._handshake()
        if opening is None:
            return
        self._task = asyncio.current_task()
        self.connection = opening.open(self)
        try:
            await self._accept()
            reason = await self._read(receive)
        except asyncio.CancelledError:
            if self._closing is None:  # the server goes down
                await self.connection.terminate(Reason.DRAINING)
                raise
            reason = self._closing[1]
        except Exception as error:
            self._failed(error)
            reason = Reason.CRASH
            self._closing = (CloseCode.CRASH, reason)
        finally:
            self._outgoing.edge.listen(None)
            if self._lifetime is not None:
                self._lifetime.stop()
        self._outgoing.stop()
        if self._closing is not None:
            self._code = self._closing[0]
        terminated = self.connection.terminate(reason, self._exception, self._code)
        if self._closing is None:  # it was the client who ended the connection
            await terminated
        else:
            refusals[self._closing[0]] += 1
            closed = self._outgoing.close(self._closing[0], CLOSE_TIMEOUT)
            await asyncio.gather(closed, terminated)

    # ------------------------------------------------------------- the way in

    async def _read(self, receive: Receive) -> Reason:
        """Frames until the connection ends."""
        loop, edge = asyncio.get_running_loop(), self._outgoing.edge
        self._now = loop.time
        self._lifetime = Lifetime(
            self.options.timeout,
            self.options.max_connection_age,
            self.close,
        )
        self._turns = Turns(loop, edge.read_in_steps)
        edge.listen(self._take_at_once)
        while True:
            edge.read_on()
            self.is_receiving = True
            event = await receive()
            self.is_receiving = False
            if event["type"] == "websocket.disconnect":
                return self._ended(event.get("code"))
            if self.connection.backlog.frames or self._turns.is_over(self._now()):
                # what came before has its turn first, and so have the other sockets
                await asyncio.sleep(0)
            if owed := self.connection.backlog.owed():
                await self._wait(owed)
            frame = event.get("text")
            self._take(event.get("bytes") or b"" if frame is None else frame)
            if self._closing is not None:
                await asyncio.sleep(0)  # close() has cancelled this task

    async def _wait(self, seconds: float) -> None:
        """Read nothing of the client meanwhile."""
        assert self._lifetime is not None
        edge = self._outgoing.edge
        edge.hold(True)
        try:
            # it is not the client that is silent
            while seconds and self._closing is None:
                self._lifetime.seen_at = self._now() + seconds
                await asyncio.sleep(seconds)
                seconds = self.connection.backlog.owed()
        finally:
            edge.hold(False)

    def _take_at_once(self, frame: str) -> bool:
        """Take a frame as it comes, unless something has to be done before."""
        if (
            not self.is_receiving
            or self.connection.backlog.frames
            or self.connection.backlog.owed()
            or self._turns.is_over(self._now())
        ):
            return False
        self._take(frame)
        return True

    def _take(self, frame: Frame) -> None:
        """One frame of the client. What is none ends the connection."""
        assert self._lifetime is not None
        self._lifetime.seen_at = self._now()
        if self._closing is not None:
            return
        try:
            code = take(self.connection, frame)
            if code is not None:
                self.close(code, Reason.CRASH if code in ABNORMAL else Reason.CLOSED)
        except Exception as error:
            self._failed(error)
            self.close(CloseCode.CRASH, Reason.CRASH)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DecodeError):
            logger.warning("closing a connection with 1011: %.300s", error)
        else:
            logger.error("closing a connection with 1011", exc_info=error)
        self._exception = error

    def _ended(self, code: int | None) -> Reason:
        """The connection is gone, closed with `code` by the client or by the server."""
        self._code = code
        if code == CloseCode.TOO_LARGE:
            logger.warning("the server refused a frame: it is beyond MAX_FRAME_SIZE")
            refusals[CloseCode.TOO_LARGE] += 1
        return Reason.CRASH if code in ABNORMAL else Reason.CLOSED

    # ------------------------------------------------------------ the way out

    def close(self, code: int, reason: Reason) -> None:
        """End the connection: nothing goes out behind this but the close frame. Never 1000,
        on which phoenix.js before 1.8.16 stays away for ever."""
        if self._closing is None:
            self._closing = (code, reason)
            self._outgoing.stop()
            if self._task is not None:
                self._task.cancel()

    def pending_bytes(self) -> int:
        return self._outgoing.pending_bytes()

    def last_seen(self) -> float:
        lifetime = self._lifetime
        return self.connection.opened_at if lifetime is None else lifetime.last_seen()

    def _overflowed(self) -> None:
        logger.warning(
            "closing a connection with 1013: the client does not take what it is sent, %d bytes wait",
            self.pending_bytes(),
        )
        self.close(CloseCode.OVERLOADED, Reason.CLOSED)

    # ----------------------------------------------------------- the handshake

    async def _handshake(self) -> Opening | None:
        """Let the connection in, or answer why not and return None."""
        handshake = Handshake(self.socket_class, self.scope)
        try:
            handshake.log_request()
            handshake.read_params()
            handshake.check_tls()
            await handshake.check_origin()
            self._subprotocol = handshake.choose_subprotocol()
            return await handshake.admit(bearer_token(self.scope), self.name)
        except ConnectionRefused as refused:
            await self._refuse(refused)
            return None

    async def _accept(self) -> None:
        await self.connection.announce()
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if self._subprotocol is not None:
            # browsers fail the handshake when none of what they offered comes back
            accept["subprotocol"] = self._subprotocol
        # of a client that is gone already receive() says so
        edge = self._outgoing.edge
        with contextlib.suppress(OSError):
            await self._in_time(edge.send(accept))
        edge.limit_frames(self.options.max_frame_size)

    async def _refuse(self, refused: ConnectionRefused) -> None:
        """An HTTP answer to the handshake; 403 where the server can say nothing else."""
        status, body = refused.status, refused.reason.encode()
        refusals[status] += 1
        headers = [*TEXT, *raw_headers(refused.headers)]
        if self.scope["type"] == "http":
            return await self._in_time(respond(self._send, status, body, headers))
        # what every server answers to a close
        plain = (status, body, refused.headers) == (403, b"", {})
        extensions = self.scope.get("extensions") or {}
        if not plain and "websocket.http.response" in extensions:
            kind = "websocket.http"
            return await self._in_time(respond(self._send, status, body, headers, kind))
        await self._send({"type": "websocket.close", "code": 1008})

    async def _in_time(self, answer: Awaitable[None]) -> None:
        """Write an answer to the handshake; a client that does not take it is dropped."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await answer
        except TimeoutError:
            self._outgoing.edge.abort()

    async def _answer_http(self) -> None:
        """A request without an upgrade: connect has its say first, then it is 400."""
        if self.scope["method"] != "GET":
            await self._refuse(ConnectionRefused(400))
        elif opening := await self._handshake():
            opening.discard()
            await self._refuse(ConnectionRefused(400, NO_UPGRADE))


class HiddenServer(Part):
    """Tells other nodes, and the doctor, which middleware hides the ASGI server of this one."""

    @property
    def calls(self) -> Mapping[str, Call]:
        return {HIDDEN: self._answer}

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"hidden_by": hidden_by}


PARTS.append(HiddenServer)
