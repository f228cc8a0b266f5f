"""LongPollConsumer: HTTP requests carry a Socket (``Phoenix.Transports.LongPoll``).

A GET opens a session or polls it, a POST sends. Every answer is HTTP 200 with the real
status in its JSON body, which phoenix.js reads. The session lives in the process that
opened it; a request that reaches another process is relayed over the channel layer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature

from ...conf import options
from ...exceptions import ConnectionRefused
from ...logs import get_logger
from ...node.node import get_node
from ...pubsub.serving import mount_socket
from ...socket.refusals import refusals
from ...socket.socket import Socket
from ...wire.json import encode
from ...wire.params import MAX_QUERY_BYTES
from ...wire.reasons import Refusal
from ..handshake import Handshake
from ..http import (
    BodyTooLarge,
    Disconnected,
    Headers,
    Receive,
    Send,
    raw_headers,
    read_body,
    respond,
)
from ..sealed import is_sealed, seal, unseal
from ..servers import http_adapter_for
from .session import Batch, LongPollSession
from .sessions import RemoteSession, Sessions

logger = get_logger("phx_protocol.transport")

CORS = (b"access-control-allow-origin", b"*")
JSON = [
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    CORS,
]


class LongPollConsumer:
    """The consumer of a long-poll URL: ``path("socket/longpoll", LongPollConsumer.as_asgi())``.

    ``as_asgi(socket=UserSocket)`` names the Socket class, which must have LONGPOLL switched on.
    """

    @classmethod
    def as_asgi(
        cls, socket: type[Socket] = Socket, *, mount: str | None = None
    ) -> Callable[..., Awaitable[None]]:
        """Return the ASGI application for requests of `socket`.

        Only the `mount` that opened a session serves it; default: the path of the request,
        without the script's prefix. Raise ImproperlyConfigured if LONGPOLL is off.
        """
        if not options(socket).longpoll:
            raise ImproperlyConfigured(
                f"{socket.__name__} serves no long-poll: switch LONGPOLL on, or set longpoll = True on it"
            )
        mount_socket(socket)

        async def application(
            scope: dict[str, Any], receive: Receive, send: Send
        ) -> None:
            await cls(socket, scope, receive, send, mount)()

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
        mount: str | None = None,
    ) -> None:
        # an application may have a parameter of its own with the name of the session's token
        self._token_param, query = split_token(scope.get("query_string", b""))
        self.scope = scope = {**scope, "query_string": query}
        mount = _path(scope) if mount is None else mount
        kind = f"{socket_class.__module__}.{socket_class.__qualname__}"
        self._purpose = f"longpoll of {kind} at {mount}"
        self._adapter = http_adapter_for(scope, send)
        self.options = options(socket_class)
        self.node = get_node()
        self.handshake = Handshake(socket_class, scope)
        self._header = self.handshake.info.header
        self._receive = receive
        self._send = send
        self._gone: asyncio.Future[None] | None = None

    async def __call__(self) -> None:
        """Answer one request."""
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
                    await self._respond(400, b"", [CORS])
        except ConnectionRefused as refused:
            await self._refuse(refused)
        except Disconnected:
            pass  # the client is gone: there is nothing to answer
        finally:
            self._adapter.forget()

    # ------------------------------------------------------------- open and poll

    async def _get(self) -> None:
        token = self._token()
        session = self._find(token)
        if session is not None and token is not None:
            self._gone = asyncio.ensure_future(self._until_gone())
            try:
                batch = await self._poll(session)
                # if the session ended in another process, open a new one here
                if batch.status != 410 or isinstance(session, LongPollSession):
                    return await self._deliver(session, token, batch)
            finally:
                self._gone.cancel()
                self._gone = (
                    None  # break the reference cycle: the task refers to this object
                )
        await self._open()

    async def _open(self) -> None:
        """Open a new session and answer its token with status 410.

        410 means that the old session is gone; phoenix.js then polls with the new token.
        """
        opening = await self.handshake.admit(
            self._header("x-phoenix-authtoken"), LongPollSession.name
        )
        try:
            session = await self.node.part(Sessions).open(opening)
        except Exception as error:
            logger.exception("a session could not be opened")
            raise ConnectionRefused(500) from error
        address = await self.node.address()
        token = seal([session.id, address], self._purpose)
        await self._answer({"status": 410, "token": token, "messages": []})

    async def _poll(self, session: LongPollSession | RemoteSession) -> Batch:
        """Return the next batch for the client. Raise Disconnected if the client goes first."""
        assert self._gone is not None
        poll = asyncio.ensure_future(session.poll())
        try:
            either: set[asyncio.Future[Any]] = {poll, self._gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not poll.done():
                raise Disconnected
            return poll.result()
        finally:
            poll.cancel()

    async def _deliver(
        self, session: LongPollSession | RemoteSession, token: str, batch: Batch
    ) -> None:
        """Write a batch. The session keeps it unless the client was there until the last byte."""
        written = False
        try:
            async with self._in_time() as deadline:
                # stop writing if the session takes the batch back to send it again, or ends
                with session.settling(batch.number, lambda: _end(deadline)):
                    written = await self._write(token, batch)
        finally:
            if batch.number:
                await session.confirm(batch.number, written)

    async def _write(self, token: str, batch: Batch) -> bool:
        head = b'{"status":%d,"token":%s,"messages":[' % (batch.status, encode(token))
        length = len(head) + len(batch.messages) + len(b"]}")
        if await self._is_gone():
            return False
        start = {"type": "http.response.start", "status": 200}
        headers = [(b"content-length", b"%d" % length), *JSON]
        await self._send({**start, "headers": headers})
        # the last byte waits: without it neither client nor server takes the answer for complete
        for part in (head, batch.messages, b"]"):
            await self._send(
                {"type": "http.response.body", "body": part, "more_body": True}
            )
        # wait until the server has handed the bytes to the kernel; what is there we cannot see
        await self._adapter.drain()
        if await self._is_gone():
            return False
        await self._send({"type": "http.response.body", "body": b"}"})
        return True

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[asyncio.Timeout]:
        """Limit the time in which an answer must be written; then drop the connection."""
        now, limit = (
            asyncio.get_running_loop().time,
            self.options.longpoll["SEND_TIMEOUT"],
        )
        latest = now() + limit
        try:
            async with asyncio.timeout(limit) as end:
                yield end
        except TimeoutError:
            if now() >= latest:
                logger.warning(
                    "dropping an answer: its client did not take it in %s s", limit
                )
            self._adapter.abort()
            # a server logs an incomplete answer as a bug, unless it knows that the client is gone
            if self._gone is not None:
                await asyncio.wait({self._gone}, timeout=1)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _is_gone(self) -> bool:
        """Return whether the server has reported by now that the client disconnected."""
        for _ in range(2):
            await asyncio.sleep(0)
        assert self._gone is not None
        return self._gone.done() or self._adapter.drops_what_it_is_given()

    # ---------------------------------------------------------------------- send

    async def _post(self) -> None:
        session = self._find(self._token())
        if session is None:
            return await self._answer({"status": 410})
        longpoll = self.options.longpoll
        try:
            limit = longpoll["MAX_BODY_SIZE"]
            async with asyncio.timeout(longpoll["READ_TIMEOUT"]):
                body = await read_body(self._receive, limit)
        except BodyTooLarge:
            logger.warning("a POST is refused: more than %d bytes", limit)
            refusals.count(Refusal.REQUEST_TOO_LARGE)
            return await self._respond(400, b"", [CORS])
        except TimeoutError:
            logger.warning("a POST is refused with 408: its body took too long")
            refusals.count(408)
            # HTTP/2 has no such header: the answer closes the stream
            is_http_1 = self.scope.get("http_version", "1.1").startswith("1")
            close = [(b"connection", b"close")] if is_http_1 else []
            return await self._respond(408, b"", [CORS, *close])
        # compare the whole value, as Phoenix does: with a charset the body is one message
        content_type = self._header("content-type")
        is_ndjson = content_type == "application/x-ndjson"
        if is_ndjson and body.count(b"\n") >= longpoll["MAX_LINES"]:
            logger.warning("a POST is answered with 413: too many lines")
            refusals.count(Refusal.REQUEST_TOO_LARGE)
            too_large = {"status": 413, "reason": Refusal.REQUEST_TOO_LARGE}
            return await self._answer(too_large)
        try:
            text: str | None = body.decode()
        except UnicodeDecodeError:
            text = None
        answer = await session.post(text, is_ndjson)
        await self._answer(answer, 500 if answer["status"] == 500 else 200)

    # -------------------------------------------------------------------- shared

    def _token(self) -> str | None:
        """Return the session's token: from the header, even if it is bad, else the parameter."""
        token = self._header("x-phoenix-longpoll-token")
        return self._token_param if token is None else token

    def _find(self, token: str | None) -> LongPollSession | RemoteSession | None:
        """Find the session of a token of this mount, in this process or in another one."""
        longpoll = self.options.longpoll
        if token is None:
            return None
        try:
            id, address = unseal(token, self._purpose, longpoll["TOKEN_MAX_AGE"])
        except BadSignature:
            return None
        session = self.node.part(Sessions).get(id)
        if session is not None or address is None or self.node.sees_one_process:
            return session
        if address == self.node.link.groups.channel_name:
            return None  # it was a session of this process and has ended
        return RemoteSession(id, address, self.node, longpoll)

    async def _preflight(self) -> None:
        wanted = self._header("access-control-request-headers") or ""
        headers = [
            CORS,
            (b"access-control-allow-headers", wanted.encode("latin-1")),
            (b"access-control-allow-methods", b"get, post, options"),
            (b"access-control-max-age", b"3600"),
        ]
        await self._respond(200, b"", headers)

    async def _refuse(self, refused: ConnectionRefused) -> None:
        """Answer a refused request with 403 or 500: phoenix.js throws on any other status.

        The reason is for people who read the answer.
        """
        refusals.count(refused.status)
        if refused.status == 400:
            return await self._respond(400, refused.reason.encode(), [CORS])
        if refused.status // 100 == 3:  # the browser follows by itself
            headers = [CORS, *raw_headers(refused.headers)]
            return await self._respond(refused.status, b"", headers)
        # after 403 a client takes its token for bad; 429 passes
        may_pass = refused.status >= 500 or refused.status == 429
        answer: dict[str, Any] = {"status": 500 if may_pass else 403}
        if refused.reason:
            answer["reason"] = refused.reason
        if (seconds := refused.headers.get("retry-after", "")).isdecimal():
            answer["retry_after"] = int(seconds)
        headers = [*JSON, *raw_headers(refused.headers)]
        # phoenix.js reads only the body; a proxy that reads 503 tries another process
        status = 503 if refused.status == 503 else 200
        await self._respond(status, encode(answer), headers)

    async def _answer(self, answer: dict[str, Any], status: int = 200) -> None:
        await self._respond(status, encode(answer), JSON)

    async def _respond(self, status: int, body: bytes, headers: Headers) -> None:
        async with self._in_time():
            await respond(self._send, status, body, headers)


def split_token(query: bytes) -> tuple[str | None, bytes]:
    """Split `query` into the session's token, which phoenix.js puts last, and the rest.

    A parameter ``token`` of the application stays in the query.
    """
    if len(query) > MAX_QUERY_BYTES:
        return None, query
    pairs = query.split(b"&")
    for index in reversed(range(len(pairs))):
        name, _, value = pairs[index].partition(b"=")
        if name == b"token":
            token = unquote(value.decode("latin-1"))
            if is_sealed(token):
                return token, b"&".join(pairs[:index] + pairs[index + 1 :])
            break
    return None, query


def _path(scope: dict[str, Any]) -> str:
    """Return the path of a request without the script's prefix and without outer slashes."""
    path, root = scope.get("path", ""), scope.get("root_path", "")
    return str(path.removeprefix(root)).strip("/")


def _end(deadline: asyncio.Timeout) -> None:
    deadline.reschedule(asyncio.get_running_loop().time())
