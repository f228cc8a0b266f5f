"""A WebSocket protocol class for uvicorn, with which a frame is built once for all clients.

::

    uvicorn --ws phx_protocol.contrib.uvicorn:PhoenixWebSocketProtocol project.asgi:application

It derives from uvicorn's own class, and offers its RawTransport to the application in the scope's state.
It also parses large reads in steps. The rest (the handshake, pings, the parser) is uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.frames import Frame
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from ..transports.servers.adapter import READ_SIZE, RawTransport
from ..transports.servers.uvicorn import RAW_TRANSPORT

#: the answer to a handshake that cannot be read
UNREADABLE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class PhoenixWebSocketProtocol(WebSocketsSansIOProtocol):
    """The protocol class for the option ``--ws`` (``ws=`` of ``uvicorn.Config``)."""

    # Some of uvicorn's attributes are here too: an object with more than 30 in its dict needs 1.2 KiB more.
    __slots__ = (
        "raw",
        "_rest",
        "_is_going_on",
        "queue",
        "writable",
        "app_state",
        "transport",
        "conn",
        "scope",
        "request",
        "response",
        "read_paused",
        "close_sent",
        "handshake_complete",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue: Any = Inbox()
        self.writable = cast(asyncio.Event, Gate())
        self._rest: memoryview | None = None  # bytes that are read but not parsed yet
        self._is_going_on = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.raw = RawTransport(cast(asyncio.Transport, transport))
        # uvicorn copies it into scope["state"]
        self.app_state: dict[str, Any] = {**self.app_state, RAW_TRANSPORT: self.raw}

    def data_received(self, data: bytes) -> None:
        if self._rest is not None:  # uvicorn resumes reading when it closes
            self.transport.pause_reading()
            self._rest = memoryview(bytes(self._rest) + data)
            self._go_on_soon()
        elif len(data) > READ_SIZE and self.handshake_complete:
            # uvloop reads 256 kB at once, which can be five thousand tiny frames
            self._rest = memoryview(data)
            self.transport.pause_reading()
            self._go_on()
        else:
            self._receive(data)

    def _go_on(self) -> None:
        """Parse READ_SIZE bytes, and let the loop run others before the next step."""
        self._is_going_on = False
        rest = self._rest
        if rest is None or self.transport.is_closing():
            return
        self._rest = rest[READ_SIZE:] if len(rest) > READ_SIZE else None
        self._receive(bytes(rest[:READ_SIZE]))
        if self._rest is not None:
            self._go_on_soon()
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _go_on_soon(self) -> None:
        """Schedule the next step, unless messages wait for ``receive``, which then schedules it."""
        if not self._is_going_on and (self.queue.empty() or self.close_sent):
            self._is_going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.queue.empty():
            if self._rest is not None:
                self.read_paused = False
                self._go_on_soon()
            elif self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
        return message

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        # a header (a token, a cookie) is too long: uvicorn would send no answer at all
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = True
            self.transport.write(UNREADABLE)
            self.transport.close()

    def start_keepalive(self) -> None:
        # free what is not needed after the handshake
        del self.request, self.response
        restart_parser(self.conn)
        super().start_keepalive()

    def handle_text(self, event: Frame) -> None:
        is_next = event.fin and not self.close_sent and self.queue.empty()
        if not (is_next and self._taken(event.data)):
            super().handle_text(event)

    def _taken(self, data: Any) -> bool:
        """Pass a text message on at once if it can be handled now; return whether it was."""
        if self.raw.take is None:
            return False
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        return self.raw.take(text)


def restart_parser(connection: ServerProtocol) -> None:
    """Have a new generator parse the frames: the one that has parsed the handshake keeps the request.

    That is possible while it waits for the first byte of a frame.
    """
    frames = getattr(connection.parser, "gi_yieldfrom", None)
    waiting = getattr(frames, "gi_yieldfrom", None)
    if getattr(waiting, "gi_code", None) is StreamReader.at_eof.__code__:
        connection.parser = Protocol.parse(connection)
        next(connection.parser)


class Gate:
    """A gate to wait at, open at first. An ``asyncio.Event`` would need 0.8 KiB."""

    __slots__ = ("_opening",)

    def __init__(self) -> None:
        self._opening: asyncio.Future[None] | None = None  # while it is closed

    def is_set(self) -> bool:
        return self._opening is None

    def set(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(None)

    def clear(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        while self._opening is not None:
            await asyncio.shield(self._opening)


class Inbox:
    """The queue of messages for ``receive``. An empty ``asyncio.Queue`` would need 3 KiB."""

    __slots__ = ("_messages", "_getters")

    def __init__(self) -> None:
        self._messages: deque[Any] | None = None
        self._getters: list[asyncio.Future[None]] = []

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        for getter in self._getters:
            if not getter.done():
                getter.set_result(None)

    async def get(self) -> Any:
        while not self._messages:
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            finally:
                self._getters.remove(getter)
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
        return message
