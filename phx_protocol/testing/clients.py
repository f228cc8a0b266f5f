"""connect(): a client that drives a whole connection, with frames or without."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from ..concurrency import callbacks
from ..exceptions import JoinDenied
from ..node.node import get_node
from ..socket.socket import Socket
from ..transports.authentication import BEARER
from ..wire.messages import CLOSE, ERROR, JOIN, LEAVE, REPLY, Broadcast
from ..wire.serializers import decode_payload
from .communicators import Communicator, DirectCommunicator, WireCommunicator
from .database import keep_test_connections, share

#: seconds that an assertion waits for the message that it expects
TIMEOUT = 2.0


async def connect(
    socket_class: type[Socket] = Socket,
    params: dict[str, Any] | None = None,
    *,
    user: Any = None,
    session: Any = None,
    auth_token: str | None = None,
    headers: dict[str, str] | None = None,
    wire: bool = True,
) -> TestSocket:
    """Connect as a V2 client.

    `user` and `session` are put into the scope, as an authentication middleware would do;
    `auth_token` is sent as phoenix.js's ``authToken``.

    With ``wire=False`` there is neither ASGI nor a frame: the Socket and its channels are called
    directly, as by ``Phoenix.ChannelTest``. Payloads still arrive as the JSON that a client
    gets, and the handshake makes the same checks (parameters, Origin, version, MAX_CONNECTIONS,
    user). The serializers do not run, and these limits of frames and connections do not apply:
    MAX_FRAME_SIZE, MAX_TOPIC_LENGTH, MAX_EVENT_LENGTH, MAX_REF_LENGTH, INBOUND, OUTBOUND, TIMEOUT
    and MAX_CONNECTION_AGE.

    Raises ConnectionRefused when ``connect`` of the socket refuses it, AssertionError when it
    does not answer within two seconds.
    """
    callbacks.thread_sensitive = True
    keep_test_connections()
    share()
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/socket/websocket",
        "query_string": urlencode({"vsn": "2.0.0", **(params or {})}).encode(),
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in (headers or {}).items()
        ],
        "subprotocols": _subprotocols(auth_token),
        "extensions": {"websocket.http.response": {}},
    }
    for name, value in (("user", user), ("session", session)):
        if value is not None:
            scope[name] = value
    kind = WireCommunicator if wire else DirectCommunicator
    try:
        communicator = await kind.open(socket_class, scope, TIMEOUT)
    except TimeoutError:
        what = f"{socket_class.__name__}.connect"
        raise AssertionError(f"{what} did not end in {TIMEOUT} seconds") from None
    return TestSocket(communicator)


def _subprotocols(auth_token: str | None) -> list[str]:
    if auth_token is None:
        return []
    encoded = base64.b64encode(auth_token.encode()).decode().rstrip("=")
    return ["phoenix", f"{BEARER}{encoded}"]


class TestSocket:
    """The client's end of a connection; made by ``connect``."""

    __test__ = False

    def __init__(self, communicator: Communicator) -> None:
        #: the transport that carries its frames
        self.communicator = communicator
        self._loop = asyncio.get_running_loop()
        self._at_end = contextlib.ExitStack()  # ends the subscriptions
        self._refs = itertools.count(1)
        self._arrived: list[list[Any]] = []  # frames that no assertion has taken yet
        #: the code with which the server closed the connection, None while it has not
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
        pubsub = get_node().pubsub
        pubsub.subscribe(topic, channel)
        self._at_end.callback(pubsub.unsubscribe, topic, channel)
        return channel

    async def send(self, frame: list[Any]) -> None:
        """Send ``[join_ref, ref, topic, event, payload]`` as it is; ``bytes`` as a binary frame.

        Raises EncodeError if JSON cannot carry the payload.
        """
        self._check_loop()
        await self.communicator.send(frame)

    async def close(self) -> None:
        """Close as a client does, and wait until the server has ended the connection.

        If callbacks still run after two seconds, cancels them and raises AssertionError.
        """
        await self._end(1000)

    async def disconnect(self) -> None:
        """Disconnect without a close frame, as when the network fails; else do as ``close``."""
        await self._end(1006)

    async def _end(self, code: int) -> None:
        self._check_loop()
        with self._at_end:
            await self.communicator.end(code, TIMEOUT)
            if busy := self.communicator.busy():
                for server in busy:
                    if server.task is not None:
                        server.task.cancel()
                raise AssertionError(f"callbacks still run: {busy}")

    async def settled(self) -> None:
        """Wait until the server has handled every message, and all its messages have arrived.

        It does not wait for what handlers start elsewhere (tasks of their own, other processes).
        Raises AssertionError if a callback runs for more than two seconds.
        """
        self._check_loop()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self.communicator.all_read()
                while tasks := [s.task for s in self.communicator.busy() if s.task]:
                    await asyncio.wait(tasks)
        except TimeoutError:
            raise AssertionError(
                f"callbacks still run: {self.communicator.busy()}"
            ) from None
        while not self.communicator.is_empty():
            await self._receive("what has arrived")

    async def assert_closed(self, code: int) -> None:
        """Assert that the server closes the connection with `code`."""
        while self.close_code is None:
            await self._receive(f"a close with {code}")
        assert self.close_code == code, f"closed with {self.close_code}, not {code}"

    async def _take(self, wanted: Any, what: str = "it") -> list[Any]:
        """Return the first frame that is `wanted`, of those that have arrived or will arrive."""
        seen = 0
        while True:
            for at, frame in enumerate(self._arrived[seen:], seen):
                if wanted(frame):
                    return self._arrived.pop(at)
            seen = len(self._arrived)
            await self._receive(what)

    async def _receive(self, what: str) -> None:
        self._check_loop()
        try:
            async with asyncio.timeout(TIMEOUT):
                received = await self.communicator.receive()
        except TimeoutError:
            raise AssertionError(
                f"{what} did not arrive; what did:\n  {_listed(self._arrived)}"
            ) from None
        if isinstance(received, int):
            self.close_code = received
        else:
            self._arrived.append(received)

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client was made on another event loop, where its server is: connect in the "
                "test itself, or with connect_sync, whose clients can be used anywhere"
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
        self._broadcasts: list[tuple[str, Any]] = []  # that no assertion has taken yet
        self._came = asyncio.Event()

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self._broadcasts.append((broadcast.event, decode_payload(broadcast)))
        self._came.set()

    async def push(self, event: str, payload: Any = None) -> str:
        """Send an event; return the ref for ``assert_reply``."""
        ref = str(next(self.socket._refs))
        await self.socket.send(
            [self.join_ref, ref, self.topic, event, {} if payload is None else payload]
        )
        return ref

    async def assert_reply(self, ref: str, status: str, payload: Any = ...) -> Any:
        """Assert the status of the reply to the push with `ref`; return the reply's payload.

        `payload`, if given, must be equal to it; a mapping may be a part of it.
        """
        answer = await self.socket._take(
            lambda f: f[1] == ref and f[3] == REPLY, f"the reply to {ref}"
        )
        got = (answer[4]["status"], answer[4]["response"])
        assert got[0] == status, f"the reply is {got!r}, not {status!r}"
        assert matches(payload, got[1]), f"the reply is {got!r}, not {payload!r}"
        return got[1]

    async def refute_reply(
        self, ref: str, status: str = ..., payload: Any = ...  # type: ignore[assignment]
    ) -> None:
        """Assert that the push with `ref` gets no such reply, after everything is handled.

        Without `status` and `payload`, assert that it gets no reply at all.
        """

        def unwanted(frame: list[Any]) -> bool:
            if frame[1] != ref or frame[3] != REPLY:
                return False
            answer = frame[4]
            return matches(status, answer["status"]) and matches(
                payload, answer["response"]
            )

        await self._refute(unwanted, f"a reply to {ref}")

    async def assert_push(self, event: str, payload: Any = ...) -> Any:
        """Assert that the client gets `event` on this topic, pushed or broadcast; return its payload."""
        what = f"{event!r} with {_said(payload)}"
        return (await self.socket._take(self._pushed(event, payload), what))[4]

    async def refute_push(self, event: str, payload: Any = ...) -> None:
        """Assert that the client does not get `event`, after every message is handled."""
        what = f"{event!r} with {_said(payload)}"
        await self._refute(self._pushed(event, payload), what)

    def _pushed(self, event: str, payload: Any) -> Callable[[list[Any]], bool]:
        return lambda frame: (
            frame[2:4] == [self.topic, event] and matches(payload, frame[4])
        )

    async def _refute(self, unwanted: Callable[[list[Any]], bool], what: str) -> None:
        await self.socket.settled()
        came = [frame for frame in self.socket._arrived if unwanted(frame)]
        assert not came, f"{what} arrived:\n  {_listed(came)}"

    async def assert_broadcast(self, event: str, payload: Any = ...) -> Any:
        """Assert that `event` is broadcast on this topic, intercepted or not; return its payload."""
        looked_at = 0
        while True:
            for at, (name, got) in enumerate(self._broadcasts[looked_at:], looked_at):
                if name == event and matches(payload, got):
                    del self._broadcasts[at]
                    return got
            looked_at = len(self._broadcasts)
            self._came.clear()
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._came.wait()
            except TimeoutError:
                raise AssertionError(
                    f"{event!r} with {_said(payload)} was not broadcast; what was:\n  "
                    f"{_listed(self._broadcasts)}"
                ) from None

    async def refute_broadcast(self, event: str, payload: Any = ...) -> None:
        """Assert that `event` is not broadcast on this topic, after every message is handled."""
        await self.socket.settled()
        came = [b for b in self._broadcasts if b[0] == event and matches(payload, b[1])]
        assert not came, f"{event!r} was broadcast:\n  {_listed(came)}"

    async def assert_ended(self, crashed: bool = False) -> None:
        """Assert that the server ended the channel: ``phx_close``, or ``phx_error`` if it `crashed`."""
        await self.assert_push(ERROR if crashed else CLOSE)

    async def leave(self) -> None:
        """Leave the topic and wait for ``phx_close``."""
        get_node().pubsub.unsubscribe(self.topic, self)
        ref = await self.push(LEAVE)
        await self.assert_reply(ref, "ok")
        await self.assert_push(CLOSE)

    async def close(self) -> None:
        """Leave, without waiting for the answer."""
        get_node().pubsub.unsubscribe(self.topic, self)
        await self.push(LEAVE)


def _listed(things: list[Any]) -> str:
    return "\n  ".join(map(repr, things)) or "nothing"


def _said(payload: Any) -> str:
    return "any payload" if payload is ... else repr(payload)


def matches(wanted: Any, got: Any) -> bool:
    """Return whether `got` matches `wanted`: ``...`` matches anything, a mapping its own keys."""
    if wanted is ...:
        return True
    if isinstance(wanted, dict) and isinstance(got, dict):
        return all(
            key in got and matches(value, got[key]) for key, value in wanted.items()
        )
    return bool(wanted == got)
