"""Test helpers in the words of ``Phoenix.ChannelTest``, on Channels' own communicator.

::

    socket = await connect(UserSocket, {"token": token}, user=user)
    room = await socket.join("room:lobby")
    ref = await room.push("new_msg", {"body": "hi"})
    await room.assert_reply(ref, "ok")
    await room.assert_broadcast("new_msg", {"body": "hi"})
    await socket.close()

A whole connection is driven, wire included. Callbacks that are a plain ``def`` run where the
test's own database connection is, so that ``TestCase`` works.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any
from urllib.parse import urlencode

from channels.testing import WebsocketCommunicator

from . import callbacks
from .exceptions import ConnectionRefused, JoinDenied
from .pubsub import get_pubsub
from .server import decode_payload
from .socket import Socket
from .transports.trust import BEARER
from .transports.websocket import PhoenixConsumer
from .wire import json
from .wire.messages import CLOSE, ERROR, JOIN, LEAVE, REPLY, Broadcast, Frame

#: seconds that an assertion waits for what it wants
TIMEOUT = 2.0


async def connect(
    socket_class: type[Socket] = Socket,
    params: dict[str, Any] | None = None,
    *,
    user: Any = None,
    session: Any = None,
    auth_token: str | None = None,
    headers: dict[str, str] | None = None,
) -> TestSocket:
    """Connect as a V2 client. Raises ConnectionRefused when ``connect`` says so.

    `user` and `session` are put into the scope as an authentication middleware would;
    `auth_token` travels as phoenix.js's ``authToken`` does.
    """
    callbacks.thread_sensitive = True
    query = urlencode({"vsn": "2.0.0", **(params or {})})
    pairs = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
    communicator = WebsocketCommunicator(
        PhoenixConsumer.as_asgi(socket=socket_class),
        f"/socket/websocket?{query}",
        headers=pairs,
        subprotocols=_subprotocols(auth_token),
    )
    communicator.scope["extensions"] = {"websocket.http.response": {}}
    for name, value in (("user", user), ("session", session)):
        if value is not None:
            communicator.scope[name] = value
    await communicator.send_input({"type": "websocket.connect"})
    answer = await communicator.receive_output(TIMEOUT)
    if answer["type"] == "websocket.http.response.start":
        body = await communicator.receive_output(TIMEOUT)
        said = {k.decode(): v.decode() for k, v in answer["headers"]}
        raise ConnectionRefused(answer["status"], body["body"].decode(), said)
    if answer["type"] == "websocket.close":
        raise ConnectionRefused(403)
    return TestSocket(communicator)


def _subprotocols(auth_token: str | None) -> list[str]:
    if auth_token is None:
        return []
    encoded = base64.b64encode(auth_token.encode()).decode().rstrip("=")
    return ["phoenix", f"{BEARER}{encoded}"]


class TestSocket:
    """The client's end of a connection; made by ``connect``."""

    __test__ = False

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self._communicator = communicator
        self._refs = itertools.count(1)
        self._arrived: list[list[Any]] = []  # frames that no assertion has taken yet
        self.close_code: int | None = None

    async def join(self, topic: str, payload: Any = None) -> TestChannel:
        """Join `topic`. Raises JoinDenied with the reply when the answer is an error."""
        channel = TestChannel(self, topic, str(next(self._refs)))
        await self.send(
            [channel.join_ref, channel.join_ref, topic, JOIN, payload or {}]
        )
        answer = await self._take(
            lambda frame: frame[1] == channel.join_ref and frame[3] == REPLY
        )
        if answer[4]["status"] != "ok":
            raise JoinDenied(answer[4]["response"])
        channel.reply = answer[4]["response"]
        get_pubsub().subscribe(topic, channel)
        return channel

    async def send(self, frame: list[Any]) -> None:
        """Send ``[join_ref, ref, topic, event, payload]`` as it is; ``bytes`` travel in binary."""
        join_ref, ref, topic, event, payload = frame
        if isinstance(payload, bytes):
            meta = [
                str(value or "").encode() for value in (join_ref, ref, topic, event)
            ]
            data = bytes((0, *map(len, meta))) + b"".join(meta) + payload
            await self._communicator.send_input(
                {"type": "websocket.receive", "bytes": data}
            )
        else:
            text = json.encode(frame).decode()
            await self._communicator.send_input(
                {"type": "websocket.receive", "text": text}
            )

    async def close(self) -> None:
        """Close as a client does, and wait until the server is done with the connection."""
        if self.close_code is None:
            await self._communicator.send_input(
                {"type": "websocket.disconnect", "code": 1000}
            )
        await self._communicator.wait(TIMEOUT)

    async def assert_closed(self, code: int) -> None:
        """Assert that the server closes the connection with `code`."""
        while self.close_code is None:
            await self._receive(f"a close with {code}")
        assert self.close_code == code, f"closed with {self.close_code}, not {code}"

    async def _take(self, wanted: Any, what: str = "it") -> list[Any]:
        """The first frame that is `wanted`, out of those that have arrived or will."""
        seen = 0
        while True:
            for at, frame in enumerate(self._arrived[seen:], seen):
                if wanted(frame):
                    return self._arrived.pop(at)
            seen = len(self._arrived)
            await self._receive(what)

    async def _receive(self, what: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                message = await self._communicator.output_queue.get()
        except TimeoutError:
            arrived = "\n  ".join(map(repr, self._arrived)) or "nothing"
            raise AssertionError(
                f"{what} did not arrive; what did:\n  {arrived}"
            ) from None
        if message["type"] == "websocket.close":
            self.close_code = message["code"]
        else:
            frame = message.get("text")
            self._arrived.append(
                decode_frame(message["bytes"] if frame is None else frame)
            )


class TestChannel:
    """The client's end of a joined channel; made by ``TestSocket.join``."""

    __test__ = False

    fastlane = None

    def __init__(self, socket: TestSocket, topic: str, join_ref: str) -> None:
        self.socket = socket
        self.topic = topic
        self.join_ref = join_ref
        #: the payload of the join's reply
        self.reply: Any = None
        self._broadcasts: asyncio.Queue[Broadcast] = asyncio.Queue()
        self._seen: list[tuple[str, Any]] = []

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self._broadcasts.put_nowait(broadcast)

    async def push(self, event: str, payload: Any = None) -> str:
        """Send an event; returns the ref for ``assert_reply``."""
        ref = str(next(self.socket._refs))
        await self.socket.send(
            [self.join_ref, ref, self.topic, event, {} if payload is None else payload]
        )
        return ref

    async def assert_reply(self, ref: str, status: str, payload: Any = ...) -> Any:
        """Assert the answer to the push with `ref`; returns its payload.

        `payload`, when given, must equal it, or for a mapping be part of it.
        """
        answer = await self.socket._take(
            lambda f: f[1] == ref and f[3] == REPLY, f"the reply to {ref}"
        )
        got = (answer[4]["status"], answer[4]["response"])
        assert got[0] == status, f"the reply is {got!r}, not {status!r}"
        assert matches(payload, got[1]), f"the reply is {got!r}, not {payload!r}"
        return got[1]

    async def assert_push(self, event: str, payload: Any = ...) -> Any:
        """Assert that the client gets `event` on this topic, by push or broadcast; returns its payload."""

        def wanted(frame: list[Any]) -> bool:
            return frame[2:4] == [self.topic, event] and matches(payload, frame[4])

        return (await self.socket._take(wanted, f"{event!r} with {payload!r}"))[4]

    async def assert_broadcast(self, event: str, payload: Any = ...) -> Any:
        """Assert that `event` is broadcast on this topic, intercepted or not; returns its payload."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    broadcast = await self._broadcasts.get()
                    got = decode_payload(broadcast)
                    self._seen.append((broadcast.event, got))
                    if broadcast.event == event and matches(payload, got):
                        return got
        except TimeoutError:
            raise AssertionError(
                f"{event!r} was not broadcast; what was: {self._seen!r}"
            ) from None

    async def assert_ended(self, crashed: bool = False) -> None:
        """Assert that the server ended the channel: ``phx_close``, or ``phx_error`` if it `crashed`."""
        await self.assert_push(ERROR if crashed else CLOSE)

    async def leave(self) -> None:
        """Leave the topic and wait for ``phx_close``."""
        get_pubsub().unsubscribe(self.topic, self)
        ref = await self.push(LEAVE)
        await self.assert_reply(ref, "ok")
        await self.assert_push(CLOSE)

    async def close(self) -> None:
        """Leave, without waiting for the answer."""
        get_pubsub().unsubscribe(self.topic, self)
        await self.push(LEAVE)


def matches(wanted: Any, got: Any) -> bool:
    """Whether `got` is what was `wanted`: anything for ``...``, the keys named for a mapping."""
    if wanted is ...:
        return True
    if isinstance(wanted, dict) and isinstance(got, dict):
        return all(
            key in got and matches(value, got[key]) for key, value in wanted.items()
        )
    return bool(wanted == got)


def decode_frame(frame: Frame) -> list[Any]:
    """A V2 frame of the server as ``[join_ref, ref, topic, event, payload]``."""
    if isinstance(frame, str):
        return list(json.decode(frame))
    names = {0: "jte", 1: "jrts", 2: "te"}[frame[0]]
    sizes, at, meta = frame[1 : 1 + len(names)], 1 + len(names), {}
    for name, size in zip(names, sizes, strict=True):
        meta[name] = frame[at : at + size].decode()
        at += size
    refs = [meta.get("j"), meta.get("r"), meta["t"]]
    if "s" in meta:
        return [*refs, REPLY, {"status": meta["s"], "response": frame[at:]}]
    return [*refs, meta["e"], frame[at:]]
