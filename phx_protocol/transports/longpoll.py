"""LongPollConsumer: HTTP requests carry a Socket (``Phoenix.Transports.LongPoll``).

A GET opens a session or polls it, a POST sends. Every answer is HTTP 200 with the real
status in its JSON body, which is what phoenix.js reads. The session lives in the process
that opened it; a request that reaches another process is relayed over the channel layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.core import signing
from django.core.exceptions import ImproperlyConfigured

from ..conf import options
from ..exceptions import ConnectionRefused
from ..limits import refusals
from ..logs import get_logger
from ..pubsub import get_pubsub
from ..socket import Socket, mounted
from ..wire.json import encode
from ..wire.reasons import Refusal
from .edge import drops_what_it_is_given
from .handshake import Handshake
from .http import (
    BodyTooLarge,
    Disconnected,
    Receive,
    Send,
    raw_headers,
    read_body,
    respond,
)
from .session import Batch, LongPollSession, RemoteSession, sessions_of

logger = get_logger("phx_protocol.transport")

SALT = "phx_protocol.longpoll"
CORS = (b"access-control-allow-origin", b"*")
JSON = [
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    CORS,
]


class LongPollConsumer:
    """Route it as any Channels consumer: ``path("socket/longpoll", LongPollConsumer.as_asgi())``.

    ``as_asgi(socket=UserSocket)`` names the Socket class, which must have LONGPOLL switched on.
    """

    @classmethod
    def as_asgi(cls, socket: type[Socket] = Socket) -> Callable[..., Awaitable[None]]:
        """The ASGI application for requests of `socket`. Raises ImproperlyConfigured."""
        if not options(socket).longpoll:
            raise ImproperlyConfigured(
                f"{socket.__name__} serves no long-poll: switch LONGPOLL on, or set longpoll = True on it"
            )
        mounted[socket] = None

        async def application(
            scope: dict[str, Any], receive: Receive, send: Send
        ) -> None:
            await cls(socket, scope, receive, send)()

        application.consumer_class = cls  # type: ignore[attr-defined]
        application.socket_class = socket  # type: ignore[attr-defined]
        return application

    # ------------------------------------------------------- the implementation

    def __init__(
        self,
        socket_class: type[Socket],
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self.scope = scope
        self.options = options(socket_class)
        self.pubsub = get_pubsub()
        self.handshake = Handshake(socket_class(scope))
        self._receive = receive
        self._send = send

    async def __call__(self) -> None:
        """The life of one request."""
        if self.scope["type"] != "http":
            return await self._send({"type": "websocket.close", "code": 1008})
        try:
            self.handshake.log_request()
            self.handshake.read_params()
            self.handshake.check_tls()
            await self.handshake.check_origin()
            match self.scope["method"]:
                case "GET":
                    await self._get()
                case "POST":
                    await self._post()
                case "OPTIONS":
                    await self._preflight()
                case _:
                    await respond(self._send, 400, b"", [CORS])
        except ConnectionRefused as refused:
            await self._refuse(refused)
        except Disconnected:
            pass  # nobody is left to be answered

    # ------------------------------------------------------------- open and poll

    async def _get(self) -> None:
        token = self._token()
        session = self._find(token)
        if session is not None:
            self._gone = asyncio.ensure_future(self._until_gone())
            try:
                batch = await self._poll(session)
                # of a session that ended elsewhere nothing is left but to open one here
                if batch.status != 410 or isinstance(session, LongPollSession):
                    return await self._deliver(session, token, batch)
            finally:
                self._gone.cancel()
        await self._open()

    async def _open(self) -> None:
        """A new session; 410 says that there was none, and phoenix.js then polls the new one."""
        socket = self.handshake.socket
        serializer = await self.handshake.admit(
            self.handshake.headers.get("x-phoenix-authtoken"), LongPollSession.name
        )
        try:
            session = await sessions_of(self.pubsub).open(socket, serializer)
        except Exception as error:
            logger.exception("a session could not be opened")
            raise ConnectionRefused(500) from error
        address = await self.pubsub.address()
        token = signing.dumps([session.id, address], salt=SALT)
        await self._answer({"status": 410, "token": token, "messages": []})

    async def _poll(self, session: LongPollSession | RemoteSession) -> Batch:
        """What the session has for the client. Raises Disconnected when the client goes first."""
        poll = asyncio.ensure_future(session.poll())
        try:
            await asyncio.wait({poll, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if not poll.done():
                raise Disconnected
            return poll.result()
        finally:
            poll.cancel()

    async def _deliver(
        self, session: LongPollSession | RemoteSession, token: str, batch: Batch
    ) -> None:
        """Write a batch. The session keeps it unless the client was there to the last byte."""
        body = b'{"status":%d,"token":%s,"messages":[%s]}' % (
            batch.status,
            encode(token),
            batch.messages,
        )
        written = False
        try:
            start = {"type": "http.response.start", "status": 200}
            length = (b"content-length", b"%d" % len(body))
            # without its last byte no client has it, and no server takes it for complete
            part = {"type": "http.response.body", "body": body[:-1], "more_body": True}
            if not await self._is_gone():
                await self._send({**start, "headers": [length, *JSON]})
                await self._send(part)
                # this one waits while the client is behind; what it cannot see is in the kernel
                await self._send({**part, "body": b""})
                if not await self._is_gone():
                    await self._send({"type": "http.response.body", "body": body[-1:]})
                    written = True
        finally:
            if batch.number:
                await session.confirm(batch.number, written)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _is_gone(self) -> bool:
        """Whether the client has disconnected, as far as the server has told by now."""
        for _ in range(2):
            await asyncio.sleep(0)
        return self._gone.done() or drops_what_it_is_given(self._send)

    # ---------------------------------------------------------------------- send

    async def _post(self) -> None:
        session = self._find(self._token())
        if session is None:
            return await self._answer({"status": 410})
        try:
            limit = self.options.longpoll["MAX_BODY_SIZE"]
            body = await read_body(self._receive, limit)
        except BodyTooLarge:
            logger.warning("a POST is refused: more than %d bytes", limit)
            refusals[Refusal.REQUEST_TOO_LARGE] += 1
            return await respond(self._send, 400, b"", [CORS])
        # exactly so, as Phoenix has it: with a charset it is one message
        content_type = self.handshake.headers.get("content-type")
        is_ndjson = content_type == "application/x-ndjson"
        try:
            text: str | None = body.decode()
        except UnicodeDecodeError:
            text = None
        answer = await session.post(text, is_ndjson)
        await self._answer(answer, 500 if answer["status"] == 500 else 200)

    # -------------------------------------------------------------------- shared

    def _token(self) -> str:
        """The session's token: of the header, which wins even when it is bad, or the parameter."""
        params = self.handshake.params
        token = self.handshake.headers.get("x-phoenix-longpoll-token")
        return params.get("token") if token is None else token  # type: ignore[return-value]

    def _find(self, token: Any) -> LongPollSession | RemoteSession | None:
        """The session of a token that we signed, here or in another process."""
        longpoll = self.options.longpoll
        if not isinstance(token, str):
            return None
        try:
            id, address = signing.loads(
                token, salt=SALT, max_age=longpoll["TOKEN_MAX_AGE"]
            )
        except signing.BadSignature:
            return None
        session = sessions_of(self.pubsub).get(id)
        if session is not None or address is None or self.pubsub.is_alone:
            return session
        if address == self.pubsub.groups.channel_name:
            return None  # it was ours and has ended
        return RemoteSession(id, address, self.pubsub, longpoll)

    async def _preflight(self) -> None:
        asked = self.handshake.headers.get("access-control-request-headers", "")
        headers = [
            CORS,
            (b"access-control-allow-headers", asked.encode("latin-1")),
            (b"access-control-allow-methods", b"get, post, options"),
            (b"access-control-max-age", b"3600"),
        ]
        await respond(self._send, 200, b"", headers)

    async def _refuse(self, refused: ConnectionRefused) -> None:
        """phoenix.js knows 403 and 500 and throws on any other status; the reason is for people."""
        refusals[refused.status] += 1
        if refused.status == 400:
            return await respond(self._send, 400, refused.reason.encode(), [CORS])
        if refused.status // 100 == 3:  # the browser follows by itself
            headers = [CORS, *raw_headers(refused.headers)]
            return await respond(self._send, refused.status, b"", headers)
        answer: dict[str, Any] = {"status": 500 if refused.status >= 500 else 403}
        if refused.reason:
            answer["reason"] = refused.reason
        headers = [*JSON, *raw_headers(refused.headers)]
        # phoenix.js reads the body alone; a proxy that reads 503 asks another process
        status = 503 if refused.status == 503 else 200
        await respond(self._send, status, encode(answer), headers)

    async def _answer(self, answer: dict[str, Any], status: int = 200) -> None:
        await respond(self._send, status, encode(answer), JSON)
