"""A WebSocket protocol class for uvicorn, with which a frame is framed once for all who get it.

::

    uvicorn --ws phx_protocol.contrib.uvicorn:PhoenixWebSocketProtocol project.asgi:application

It is uvicorn's own and offers its Wire to the application, in the scope's state; everything
else, the handshake, pings, parsing what clients send, is uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.frames import Frame

from ..transports.edge import WIRE, Wire

#: the answer to a handshake that cannot be read
UNREADABLE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class PhoenixWebSocketProtocol(WebSocketsSansIOProtocol):
    """For the option ``--ws`` (``ws=`` of ``uvicorn.Config``)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue: Any = Inbox()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wire = Wire(cast(asyncio.Transport, transport))
        # uvicorn copies it into scope["state"]
        self.app_state: dict[str, Any] = {**self.app_state, WIRE: self.wire}

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # a header too long (a token, a cookie): uvicorn would answer nothing at all
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = True
            self.transport.write(UNREADABLE)
            self.transport.close()

    def start_keepalive(self) -> None:
        # the handshake is over: 3 KiB that nobody reads any more
        del self.request, self.response
        super().start_keepalive()

    def handle_text(self, event: Frame) -> None:
        is_next = event.fin and not self.close_sent and self.queue.empty()
        if not (is_next and self._taken(event.data)):
            super().handle_text(event)

    def _taken(self, data: Any) -> bool:
        """A message that nothing waits before needs no turn of the loop of its own."""
        if self.wire.take is None:
            return False
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        return self.wire.take(text)


class Inbox:
    """What waits for ``receive``. An ``asyncio.Queue`` that is empty has 3 KiB of deques."""

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
