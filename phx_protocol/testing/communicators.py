"""Communicators: they connect a TestSocket with the server, by a WebSocket or by direct calls."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any, Protocol

import msgspec

# Channels' own communicators cannot be imported without Daphne
from asgiref.testing import ApplicationCommunicator

from ..exceptions import ConnectionRefused
from ..socket.connection import Connection
from ..socket.server import ChannelServer
from ..socket.socket import Socket
from ..state import Position
from ..transports.authentication import bearer_token
from ..transports.handshake import Handshake
from ..transports.websocket import PhoenixConsumer
from ..wire import json
from ..wire.messages import REPLY, Broadcast, Frame, Message, Reply
from ..wire.reasons import CloseCode, Reason
from ..wire.serializers import encode_map

CONSUMER = "phx_protocol.testing.consumer"

#: ``[join_ref, ref, topic, event, payload]``
Parts = list[Any]
#: a message of the server, its payload as JSON or bytes
Sent = Message | Reply | Broadcast


class Communicator(Protocol):
    """The protocol of a transport for tests: it carries frames both ways, as their five parts."""

    async def send(self, frame: Parts) -> None:
        """Send a frame to the server. Raise EncodeError if JSON cannot carry it."""

    async def receive(self) -> Parts | int:
        """Return the next frame of the server, or the code with which it closes the connection."""

    def is_empty(self) -> bool:
        """Return whether there is nothing to receive."""

    async def all_read(self) -> None:
        """Wait until the server has read every frame."""

    def busy(self) -> list[ChannelServer]:
        """Return the servers whose callbacks run."""

    async def end(self, code: int, timeout: float) -> None:
        """Close with `code`, and wait at most `timeout` seconds until the server has ended."""


class WireCommunicator:
    """A WebSocket from the handshake to the close frame, on asgiref's communicator."""

    def __init__(self, asgi: ApplicationCommunicator) -> None:
        #: it sends and receives the messages of ASGI
        self.asgi = asgi

    @classmethod
    async def open(
        cls, socket_class: type[Socket], scope: dict[str, Any], timeout: float
    ) -> WireCommunicator:
        """Connect. Raise ConnectionRefused, or TimeoutError if there is no answer."""
        application = _Consumer.as_asgi(socket=socket_class)
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "websocket.connect"})
        answer = await communicator.receive_output(timeout)
        if answer["type"] == "websocket.http.response.start":
            body = await communicator.receive_output(timeout)
            headers = {k.decode(): v.decode() for k, v in answer["headers"]}
            raise ConnectionRefused(answer["status"], body["body"].decode(), headers)
        if answer["type"] == "websocket.close":
            raise ConnectionRefused(403)
        return cls(communicator)

    async def send(self, frame: Parts) -> None:
        data = encode_frame(frame)
        kind = "text" if isinstance(data, str) else "bytes"
        await self.asgi.send_input({"type": "websocket.receive", kind: data})

    async def receive(self) -> Parts | int:
        message = await self.asgi.output_queue.get()
        if message["type"] == "websocket.close":
            return int(message["code"])
        text = message.get("text")
        return decode_frame(message["bytes"] if text is None else text)

    def is_empty(self) -> bool:
        return bool(self.asgi.output_queue.empty())

    async def all_read(self) -> None:
        while not self.asgi.future.done() and not (
            self.asgi.input_queue.empty() and self._is_receiving
        ):
            await asyncio.sleep(0)  # let the server run

    @property
    def _is_receiving(self) -> bool:
        return self._consumer is None or self._consumer.is_receiving

    def busy(self) -> list[ChannelServer]:
        consumer = self._consumer
        return [] if consumer is None else consumer.connection.busy()

    @property
    def _consumer(self) -> PhoenixConsumer | None:
        """The consumer of the connection; None if the application is not ours."""
        consumer: PhoenixConsumer | None = self.asgi.scope.get(CONSUMER)
        return consumer

    async def end(self, code: int, timeout: float) -> None:
        if not self.asgi.future.done():
            gone = {"type": "websocket.disconnect", "code": code}
            await self.asgi.send_input(gone)
        await self.asgi.wait(timeout)


class _Consumer(PhoenixConsumer):
    """The consumer that puts itself into the scope, so that WireCommunicator can find it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.scope[CONSUMER] = self


class DirectCommunicator:
    """The transport of a Socket that is called directly, without frames and without ASGI."""

    name = "channel_test"  # as Phoenix.ChannelTest calls it

    #: set when the handshake has succeeded
    connection: Connection

    def __init__(self) -> None:
        self._sent: asyncio.Queue[Sent | int] = asyncio.Queue()
        self._heard_at = time.time()
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, socket_class: type[Socket], scope: dict[str, Any], timeout: float
    ) -> DirectCommunicator:
        """Connect. Raise ConnectionRefused, or TimeoutError if there is no answer."""
        communicator = cls()
        async with asyncio.timeout(timeout):
            # a real server does not see the test's context variables either
            await asyncio.create_task(
                communicator._open(socket_class, scope), context=contextvars.Context()
            )
        return communicator

    async def _open(self, socket_class: type[Socket], scope: dict[str, Any]) -> None:
        handshake = Handshake(socket_class, scope)
        handshake.read_params()
        handshake.check_tls()
        await handshake.check_origin()
        handshake.choose_subprotocol()
        opening = await handshake.admit(bearer_token(scope), self.name)
        opening.serializer = _serializer
        self.connection = opening.open(self)
        try:
            await self.connection.subscribe_to_id()
        except Exception as error:
            await self.connection.terminate(Reason.CRASH, error, CloseCode.CRASH)
            raise ConnectionRefused(403) from error

    async def send(self, frame: Parts) -> None:
        self._heard_at = time.time()
        if self.connection.backlog.frames:
            await asyncio.sleep(0)  # let the frames before this one run first
        if self._ending is None:
            self.connection.handle_in(frame)  # type: ignore[arg-type]

    async def receive(self) -> Parts | int:
        sent = await self._sent.get()
        if isinstance(sent, int):
            return sent
        payload: Any = sent.payload
        if not isinstance(payload, bytes):
            payload = json.decode(bytes(payload))
        if isinstance(sent, Reply):
            answer = {"status": sent.status, "response": payload}
            return [sent.join_ref, sent.ref, sent.topic, REPLY, answer]
        if isinstance(sent, Broadcast):
            return [None, sent.offset, sent.topic, sent.event, payload]
        return [sent.join_ref, sent.ref, sent.topic, sent.event, payload]

    def is_empty(self) -> bool:
        return self._sent.empty()

    async def all_read(self) -> None:
        pass  # `send` calls the server, so there is nothing to wait for

    def busy(self) -> list[ChannelServer]:
        return self.connection.busy()

    async def end(self, code: int, timeout: float) -> None:
        if self._ending is None:
            self._end(code, Reason.CLOSED)
        assert self._ending is not None
        done, _ = await asyncio.wait({self._ending}, timeout=timeout)
        if not done:
            self._ending.cancel()

    def _end(self, code: int, reason: Reason) -> None:
        end = self.connection.terminate(reason, None, code)
        self._ending = self.connection.create_task(end)

    # ---------------------------------------------- the methods that the Socket calls

    @staticmethod
    def prepare(frame: Any) -> Any:
        return frame

    def write(self, sent: Any) -> None:
        if self._ending is None:
            self._sent.put_nowait(sent)

    def close(self, code: int, reason: Reason) -> None:
        if self._ending is None:
            self._sent.put_nowait(code)
            self._end(code, reason)

    def pending_bytes(self) -> int:
        return 0

    def last_seen(self) -> float:
        return self._heard_at


class _Serializer:
    """The serializer without frames: it passes the messages themselves, with payloads as JSON.

    Only real JSON shows what becomes of a NaN, of a dict's integer keys or a lone surrogate.
    """

    def decode(self, frame: Any) -> Message:
        join_ref, ref, topic, event, payload = frame
        if not isinstance(payload, bytes):
            payload = json.decode(json.encode(payload))
        return Message(join_ref, ref, topic, event, payload)

    def encode(self, message: Message | Reply) -> Any:
        payload = message.payload
        if isinstance(payload, bytes):
            return message
        if isinstance(message, Reply):
            payload = msgspec.Raw(json.encode(payload))
        else:
            payload = encode_map(payload, message.event)
        return msgspec.structs.replace(message, payload=payload)

    def fastlane(self, broadcast: Broadcast) -> Any:
        if not isinstance(broadcast.payload, bytes):
            encode_map(broadcast.payload, broadcast.event)
        return broadcast


_serializer = _Serializer()


def encode_frame(frame: Parts) -> Frame:
    """Return ``[join_ref, ref, topic, event, payload]`` as a V2 frame of a client.

    Raise EncodeError if JSON cannot carry the payload.
    """
    *meta, payload = frame
    if not isinstance(payload, bytes):
        return json.encode(frame).decode()
    fields = [str(value or "").encode() for value in meta]
    return bytes((0, *map(len, fields))) + b"".join(fields) + payload


def decode_frame(frame: Frame) -> Parts:
    """Return a V2 frame of the server as ``[join_ref, ref, topic, event, payload]``."""
    if isinstance(frame, str):
        return list(json.decode(frame))
    names = {0: "jte", 1: "jrts", 2: "te"}[frame[0]]
    sizes, at, meta = frame[1 : 1 + len(names)], 1 + len(names), {}
    for name, size in zip(names, sizes, strict=True):
        meta[name] = frame[at : at + size].decode()
        at += size
    refs = [meta.get("j"), meta.get("r"), meta["t"]]
    if "s" in meta and Position.parse(meta["r"]):  # a kept broadcast, see history.js
        return [meta["j"] or None, *refs[1:], meta["s"], frame[at:]]
    if "s" in meta:
        return [*refs, REPLY, {"status": meta["s"], "response": frame[at:]}]
    return [*refs, meta["e"], frame[at:]]
