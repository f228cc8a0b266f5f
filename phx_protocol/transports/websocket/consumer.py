"""PhoenixConsumer: a WebSocket of ASGI carries a Socket (``Phoenix.Transports.WebSocket``)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any

from ...conf import options
from ...exceptions import ConnectionRefused, DecodeError
from ...logs import get_logger
from ...pubsub.serving import mount_socket
from ...socket.connection import Connection
from ...socket.loop_budgets import LARGE
from ...socket.opening import Opening
from ...socket.refusals import refusals
from ...socket.socket import Socket
from ...wire.messages import Frame
from ...wire.reasons import CloseCode, Reason
from ..authentication import bearer_token
from ..connection_timers import ConnectionTimers, GoneWatch
from ..handshake import Handshake
from ..http import TEXT, Receive, Send, raw_headers, respond
from ..inbound import ReadPacer, in_turn, take
from ..servers import adapter_for
from .frame_writer import FrameWriter
from .writer import Writer, finish

logger = get_logger("phx_protocol.transport")

#: the key in the scope under which the outermost application keeps the server's own ``send``
SERVER_SEND = "phx_protocol.send"
#: seconds that a close frame gets before the connection is aborted
CLOSE_TIMEOUT = 5.0
NO_UPGRADE = "this is a WebSocket endpoint: an upgrade is expected"
#: close codes of connections that ended because of what the client sent, or by a crash
ABNORMAL = frozenset({1002, 1003, 1007, 1009, 1011})


class PhoenixConsumer:
    """The consumer of a WebSocket URL: ``path("socket/websocket", PhoenixConsumer.as_asgi())``.

    ``as_asgi(socket=UserSocket)`` names the Socket class; default ``phx_protocol.Socket``. Each
    connection is one coroutine, without a channel on the channel layer and without a task while
    it is idle.
    """

    @classmethod
    def as_asgi(cls, socket: type[Socket] = Socket) -> Callable[..., Awaitable[None]]:
        """Return the ASGI application for connections of `socket`."""
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

    #: set when the handshake has succeeded
    connection: Connection

    def __init__(
        self, socket_class: type[Socket], scope: dict[str, Any], send: Send
    ) -> None:
        self.scope = scope
        self.socket_class = socket_class
        self.options = options(socket_class)
        self._send = send
        adapter = adapter_for(scope, scope.get(SERVER_SEND, send))
        writer = Writer if adapter.frames is None else FrameWriter
        self._writer = writer(adapter, self.options.outbound, self._overflowed)
        self.prepare = self._writer.prepare
        self.write = self._writer.write
        self._closing: tuple[int, Reason] | None = None
        self._code: int | None = None  # the close code of the connection's end
        self._exception: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timers: ConnectionTimers | None = None
        self.is_receiving = False  # True while it waits for the next message

    async def __call__(self, receive: Receive) -> None:
        """Run one connection from the handshake to its end."""
        if self.scope["type"] == "http":
            return await self._answer_http()
        await receive()  # websocket.connect
        admitted = await self._handshake()
        if admitted is None:
            return
        opening, subprotocol = admitted
        self._task = asyncio.current_task()
        self.connection = opening.open(self)
        del opening, admitted  # this frame lives as long as the connection
        try:
            await self._accept(subprotocol)
            reason = await self._read(receive)
        except asyncio.CancelledError:
            if self._closing is None:  # the server shuts down
                await self.connection.terminate(Reason.DRAINING)
                raise
            reason = self._closing[1]
        except Exception as error:
            self._failed(error)
            reason = Reason.CRASH
            self._closing = (CloseCode.CRASH, reason)
        finally:
            self._writer.adapter.listen(None)
            if self._timers is not None:
                self._timers.stop()
        self._writer.stop()
        if self._closing is not None:
            self._code = self._closing[0]
        # its traceback leads to this object, and to the frame that was handled
        exception, self._exception = self._exception, None
        terminated = self.connection.terminate(reason, exception, self._code)
        del exception
        if self._closing is None:  # the client ended the connection
            await terminated
        else:
            refusals.count(self._closing[0])
            closed = self._writer.close(self._closing[0], CLOSE_TIMEOUT)
            await asyncio.gather(closed, terminated)
        self._writer.abort_later(CLOSE_TIMEOUT)
        self._writer.adapter.forget()

    # ------------------------------------------------------------- the way in

    async def _read(self, receive: Receive) -> Reason:
        """Handle frames until the connection ends; return the reason of its end."""
        adapter = self._writer.adapter
        self._timers = lifetime = ConnectionTimers(
            self.options.timeout,
            self.options.max_connection_age,
            self.close,
        )
        self._pacer = ReadPacer(asyncio.get_running_loop(), adapter.read_in_steps)
        adapter.listen(self._take_at_once)
        while True:
            adapter.read_on()
            self.is_receiving = True
            event = await receive()
            self.is_receiving = False
            if event["type"] == "websocket.disconnect":
                return self._ended(event.get("code"))
            if self.connection.backlog.frames or self._pacer.is_over(lifetime.now()):
                # let the frames before this one and the other sockets run first
                await asyncio.sleep(0)
            text = event.get("text")
            await self._handle(event.get("bytes") or b"" if text is None else text)
            if self._closing is not None:
                await asyncio.sleep(0)  # close() has cancelled this task

    async def _handle(self, frame: Frame) -> None:
        """Handle a frame when its client may: it has earned the time, and it is its turn."""
        backlog = self.connection.backlog
        if len(frame) < LARGE and not backlog.owed():
            return self._take(frame)
        async with self._held():
            while owed := backlog.owed():
                await asyncio.sleep(owed)
            async with in_turn(self.connection, frame) as code:
                if code is None:
                    self._take(frame)
                else:
                    self.close(code, Reason.CLOSED)

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Read nothing from the client in the block, and leave the block when the client has gone.

        The client is not silent meanwhile: we do not read what it sends.
        """
        assert self._timers is not None
        adapter, timers = self._writer.adapter, self._timers
        adapter.hold(True)
        timers.seen_at = inf
        try:
            async with asyncio.timeout(None) as patience:
                watch = GoneWatch(adapter.is_gone, patience)
                yield
        except TimeoutError:
            pass
        finally:
            watch.stop()
            timers.seen_at = timers.now()
            adapter.hold(False)

    def _take_at_once(self, frame: str) -> bool:
        """Handle a text frame as it comes; return False if other work must be done before."""
        assert self._timers is not None
        backlog = self.connection.backlog
        if (
            not self.is_receiving
            or len(frame) >= LARGE
            or backlog.frames
            or backlog.owed()
            or self._pacer.is_over(self._timers.now())
        ):
            return False
        self._take(frame)
        return True

    def _take(self, frame: Frame) -> None:
        """Handle one frame of the client. One that cannot be decoded ends the connection."""
        assert self._timers is not None
        self._timers.seen_at = self._timers.now()
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
        """Return the reason of a connection that the client or the server closed with `code`."""
        self._code = code
        if code == CloseCode.TOO_LARGE:
            logger.warning("the server refused a frame: it is beyond MAX_FRAME_SIZE")
            refusals.count(CloseCode.TOO_LARGE)
        return Reason.CRASH if code in ABNORMAL else Reason.CLOSED

    # ------------------------------------------------------------ the way out

    def close(self, code: int, reason: Reason) -> None:
        """End the connection: after this only the close frame goes out.

        The code must not be 1000: after it, phoenix.js before 1.8.16 never connects again.
        """
        if self._closing is None:
            self._closing = (code, reason)
            self._writer.stop()
            if self._task is not None:
                self._task.cancel()

    def pending_bytes(self) -> int:
        return self._writer.pending_bytes()

    def last_seen(self) -> float:
        timers = self._timers
        return self.connection.opened_at if timers is None else timers.last_seen()

    def _overflowed(self) -> None:
        logger.warning(
            "closing a connection with 1013: the client does not take what it is sent, %d bytes wait",
            self.pending_bytes(),
        )
        self.close(CloseCode.OVERLOADED, Reason.CLOSED)

    # ----------------------------------------------------------- the handshake

    async def _handshake(self) -> tuple[Opening, str | None] | None:
        """Run the handshake; if it is refused, answer with the reason and return None."""
        handshake = Handshake(self.socket_class, self.scope)
        subprotocol = None
        try:
            handshake.log_request()
            handshake.read_params()
            handshake.check_tls()
            await handshake.check_origin()
            subprotocol = handshake.choose_subprotocol()
            opening = await handshake.admit(bearer_token(self.scope), self.name)
            return opening, subprotocol
        except ConnectionRefused as refused:
            if refused.permanent and self.scope["type"] == "websocket":
                await self._deny(subprotocol)
            else:
                await self._refuse(refused)
            return None

    async def _accept(self, subprotocol: str | None) -> None:
        await self.connection.subscribe_to_id()
        # if the client is gone already, receive() reports it
        adapter = self._writer.adapter
        with contextlib.suppress(OSError):
            await self._in_time(adapter.send(_accept(subprotocol)))
        adapter.limit_frames(self.options.max_frame_size)

    async def _deny(self, subprotocol: str | None) -> None:
        """Open the connection and close it: a browser shows a script no other refusal."""
        refusals.count(CloseCode.DENIED)
        with contextlib.suppress(OSError):  # the client is gone already
            await self._in_time(self._send(_accept(subprotocol)))
            close = {"type": "websocket.close", "code": CloseCode.DENIED.value}
            await self._in_time(self._send(close))

    async def _refuse(self, refused: ConnectionRefused) -> None:
        """Answer the handshake with an HTTP status; 403 if the server can send no other one."""
        status, body = refused.status, refused.reason.encode()
        refusals.count(status)
        headers = [*TEXT, *raw_headers(refused.headers)]
        if self.scope["type"] == "http":
            return await self._in_time(respond(self._send, status, body, headers))
        # every server answers so if the application closes before it accepts
        plain = (status, body, refused.headers) == (403, b"", {})
        extensions = self.scope.get("extensions") or {}
        if not plain and "websocket.http.response" in extensions:
            kind = "websocket.http"
            return await self._in_time(respond(self._send, status, body, headers, kind))
        await self._send({"type": "websocket.close", "code": 1008})

    async def _in_time(self, answer: Awaitable[None]) -> None:
        """Write an answer to the handshake; drop a client that does not read it in time."""
        steps = answer.__await__()
        try:
            yielded = next(steps)  # a server that has room for it does not wait
        except StopIteration:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await finish(steps, yielded)
        except TimeoutError:
            self._writer.adapter.abort()

    async def _answer_http(self) -> None:
        """Answer a request without an upgrade: 400, unless the handshake refuses it otherwise."""
        if self.scope["method"] != "GET":
            await self._refuse(ConnectionRefused(400))
        elif admitted := await self._handshake():
            admitted[0].discard()
            await self._refuse(ConnectionRefused(400, NO_UPGRADE))


def _accept(subprotocol: str | None) -> dict[str, Any]:
    accept: dict[str, Any] = {"type": "websocket.accept"}
    if subprotocol is not None:
        # browsers fail the handshake if none of the offered subprotocols comes back
        accept["subprotocol"] = subprotocol
    return accept
