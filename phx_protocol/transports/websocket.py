"""PhoenixConsumer: an ASGI WebSocket carries a Socket (``Phoenix.Transports.WebSocket``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from channels.exceptions import DenyConnection

from ..channel import Reason
from ..conf import options
from ..exceptions import ConnectionRefused, DecodeError
from ..pubsub import get_pubsub
from ..socket import Socket
from ..wire.messages import Frame
from ..wire.params import decode_query
from ..wire.serializers import Serializer, for_version
from .edge import edge_for
from .origin import origin_is_allowed
from .outgoing import Outgoing
from .trust import authenticate, bearer_token, headers_of

logger = logging.getLogger("phx_protocol.transport")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: the key in the scope under which the outermost application keeps the server's own ``send``
SERVER_SEND = "phx_protocol.send"
#: seconds that a close frame gets before the connection is aborted
CLOSE_TIMEOUT = 5.0
#: close codes in which a connection ended because of what the client sent
ABNORMAL = frozenset({1002, 1003, 1007, 1009, 1011})


class PhoenixConsumer:
    """Route it as any Channels consumer: ``path("socket/websocket", PhoenixConsumer.as_asgi())``.

    ``as_asgi(socket=UserSocket)`` names the Socket class; default ``phx_protocol.Socket``. One
    coroutine for each connection, no channel on the channel layer, no task while idle.
    """

    name = "websocket"

    @classmethod
    def as_asgi(cls, socket: type[Socket] = Socket) -> Callable[..., Awaitable[None]]:
        """The ASGI application for connections of `socket`."""

        async def application(
            scope: dict[str, Any], receive: Receive, send: Send
        ) -> None:
            await cls(socket, scope, send)(receive)

        application.consumer_class = cls  # type: ignore[attr-defined]
        application.socket_class = socket  # type: ignore[attr-defined]
        return application

    def __init__(
        self, socket_class: type[Socket], scope: dict[str, Any], send: Send
    ) -> None:
        self.scope = scope
        self.options = options(socket_class)
        self.socket = socket_class(scope)
        self._send = send
        self._outgoing = Outgoing(
            edge_for(scope.get(SERVER_SEND, send)),
            self.options.outbound,
            self._overflowed,
        )
        self.write = self._outgoing.write
        self._closing: tuple[int, Reason] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._seen_at = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def __call__(self, receive: Receive) -> None:
        """The life of one connection."""
        if self.scope["type"] == "http":
            return await self._answer_http()
        await receive()  # websocket.connect
        serializer = await self._handshake()
        if serializer is None:
            return
        self._task = asyncio.current_task()
        exception: Exception | None = None
        try:
            await self._open(serializer)
            reason = await self._read(receive)
        except DecodeError as error:
            logger.warning("closing a connection with 1011: %.300s", error)
            reason, exception = Reason.CRASH, error
            self._closing = (1011, reason)
        except asyncio.CancelledError:
            if self._closing is None:  # the server goes down
                await self.socket.terminate(Reason.DRAINING)
                raise
            reason = self._closing[1]
        except Exception as error:
            logger.exception("closing a connection with 1011")
            reason, exception = Reason.CRASH, error
            self._closing = (1011, reason)
        finally:
            self._stop_idle_timer()
        self._outgoing.stop()
        await asyncio.gather(self._close(), self.socket.terminate(reason, exception))

    async def _close(self) -> None:
        """Our close frame, unless it was the client who ended the connection."""
        if self._closing is not None:
            await self._outgoing.close(self._closing[0], CLOSE_TIMEOUT)

    # ------------------------------------------------------------- the way in

    async def _read(self, receive: Receive) -> Reason:
        """Frames until the connection ends. Raises DecodeError."""
        loop = asyncio.get_running_loop()
        self._start_idle_timer(loop)
        handle_in, limit = self.socket.handle_in, self.options.max_frame_size
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return Reason.CRASH if event.get("code") in ABNORMAL else Reason.CLOSED
            self._seen_at = loop.time()
            if self.socket.waiting:
                await asyncio.sleep(0)  # what came before it has its turn first
            frame = event.get("text")
            if frame is None:
                frame = event.get("bytes") or b""
            if len(frame) > limit or (4 * len(frame) > limit and _size(frame) > limit):
                logger.warning(
                    "closing a connection with 1009: a frame of %d bytes", _size(frame)
                )
                self.close(1009, Reason.CRASH)
            elif self.socket.waiting >= self.options.inbound:
                logger.warning(
                    "closing a connection with 1013: %d frames wait",
                    self.socket.waiting,
                )
                self.close(1013, Reason.CLOSED)
            elif self._closing is None:
                handle_in(frame)

    def _start_idle_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._seen_at = loop.time()
        self._idle = loop.call_later(self.options.timeout, self._check_idle, loop)

    def _check_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer a connection, which looks again when it was too early: none per frame."""
        left = self._seen_at + self.options.timeout - loop.time()
        if left > 0:
            self._idle = loop.call_later(left, self._check_idle, loop)
        else:
            self.close(1002, Reason.CLOSED)

    def _stop_idle_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    # ------------------------------------------------------------ the way out

    @staticmethod
    def prepare(frame: Frame) -> dict[str, Any]:
        """The ASGI message of a frame: one dict for all who get it."""
        if isinstance(frame, str):
            return {"type": "websocket.send", "text": frame}
        return {"type": "websocket.send", "bytes": frame}

    def close(self, code: int, reason: Reason) -> None:
        """End the connection: nothing goes out behind this but the close frame. Never 1000,
        on which phoenix.js before 1.8.16 stays away for ever."""
        if self._closing is None:
            self._closing = (code, reason)
            self._outgoing.stop()
            if self._task is not None:
                self._task.cancel()

    def _overflowed(self) -> None:
        logger.warning(
            "closing a connection with 1013: the client does not take what it is sent, %d bytes wait",
            self._outgoing.pending_bytes(),
        )
        self.close(1013, Reason.CLOSED)

    # ----------------------------------------------------------- the handshake

    async def _handshake(self) -> Serializer | None:
        """Let the connection in, or answer why not and return None."""
        try:
            return await self._connect()
        except ConnectionRefused as refused:
            await self._refuse(refused.status, refused.reason)
        except DenyConnection:
            await self._refuse(403, "")
        except Exception:
            logger.exception("%s.connect crashed", type(self.socket).__name__)
            await self._refuse(500, "")
        return None

    async def _connect(self) -> Serializer:
        """Raises ConnectionRefused (or DenyConnection) when somebody says no."""
        scope, socket = self.scope, self.socket
        self._log_request()
        limits = {
            "max_keys": self.options.max_params,
            "max_depth": self.options.max_params_depth,
        }
        try:
            params = decode_query(scope.get("query_string", b""), **limits)
        except DecodeError as error:
            logger.warning("%s: refused with 400: %s", scope["path"], error)
            raise ConnectionRefused(400, str(error)) from error
        headers = headers_of(scope)
        origin, check = headers.get("origin"), self.options.check_origin
        if not await origin_is_allowed(origin, check, scope):
            logger.error(
                "%s: the Origin %.200r is not allowed (CHECK_ORIGIN)",
                scope["path"],
                origin,
            )
            raise ConnectionRefused(403)
        serializer = for_version(params.get("vsn", "1.0.0"), socket.versions())
        if serializer is None:
            logger.warning(
                "%s: no serializer for vsn %.100r", scope["path"], params.get("vsn")
            )
            raise ConnectionRefused(403)
        socket.auth_token = bearer_token(scope)
        trusted = origin is not None and check is not False
        await authenticate(scope, headers, params, trusted)
        socket.params = {**params, **scope.get("url_route", {}).get("kwargs", {})}
        await socket.authorize(socket.params)
        return serializer

    async def _open(self, serializer: Serializer) -> None:
        self.socket.open(serializer, self, get_pubsub())
        await self.socket.subscribe_id()
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if self.socket.auth_token is not None:
            # browsers fail the handshake when none of what they offered comes back
            accept["subprotocol"] = "phoenix"
        # of a client that is gone already receive() says so
        with contextlib.suppress(OSError):
            await self._outgoing.edge.send(accept)
        level = self.socket.log
        if level is not None and logger.isEnabledFor(level):
            kind, params = type(self.socket).__name__, self.socket.filtered(
                self.socket.params
            )
            logger.log(level, "CONNECTED TO %s\n  Parameters: %.500r", kind, params)

    async def _refuse(self, status: int, reason: str) -> None:
        """An HTTP answer to the handshake; 403 where the server can say nothing else."""
        send, body = self._send, reason.encode()
        if self.scope["type"] == "http":
            return await respond(send, "http", status, body)
        plain = (status, body) == (403, b"")  # what every server answers to a close
        if not plain and "websocket.http.response" in (
            self.scope.get("extensions") or {}
        ):
            return await respond(send, "websocket.http", status, body)
        await send({"type": "websocket.close", "code": 1008})

    async def _answer_http(self) -> None:
        """A request without an upgrade: connect has its say first, then it is 400."""
        if self.scope["method"] != "GET":
            return await self._refuse(400, "")
        if await self._handshake() is not None:
            await self._refuse(
                400, "this is a WebSocket endpoint: an upgrade is expected"
            )

    def _log_request(self) -> None:
        if self.options.transport_log is not None:
            level = logging.getLevelName(self.options.transport_log)
            client = self.scope.get("client")
            logger.log(
                level, "%s %s from %s", self.scope["type"], self.scope["path"], client
            )


async def respond(send: Send, kind: str, status: int, body: bytes) -> None:
    """A whole HTTP answer; `kind` is "http" or "websocket.http"."""
    headers = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"text/plain; charset=utf-8"),
    ]
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})


def _size(frame: Frame) -> int:
    return len(frame.encode()) if isinstance(frame, str) else len(frame)
