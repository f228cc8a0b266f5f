"""The adapters to Daphne, whose ``send`` is a partial: its first argument is autobahn's protocol.

Daphne never waits for a slow client, keeps any number of messages for a slow ``receive``, and
raises an error for the close codes of the protocol (1001, 1002, 1009, 1011, 1012, 1013).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from ..http import Send
from .adapter import HttpAdapter, ServerAdapter, emptied, is_closed_by_peer, joined
from .closing import ClosingReader

#: bytes that Daphne always reads at once, because it needs ten times as long for a frame: the
#: second number while a frame comes that is larger than it, else the first
READ_SIZE, LARGE_READ_SIZE = 1024, 8192


def is_daphne_process() -> bool:
    """Return True in a process of the ``daphne`` command, which has no lifespan events."""
    return "daphne.cli" in sys.modules


class DaphneTransport:
    """Twisted's transport below Daphne's protocol object, with the methods of FrameTransport."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def writelines(self, several: list[bytes]) -> None:
        self._protocol.transport.writeSequence(several)

    def is_closing(self) -> bool:
        return bool(self._protocol.state != self._protocol.STATE_OPEN)

    def get_write_buffer_size(self) -> int:
        return _twisted_bytes(self._protocol.transport)


def _connection(transport: Any) -> Any:
    """Return Twisted's object of the TCP connection below `transport`, which may encrypt; or None."""
    while transport is not None and not hasattr(transport, "dataBuffer"):
        transport = getattr(transport, "transport", None)
    return transport


def _twisted_bytes(transport: Any) -> int:
    """Return the bytes that Twisted keeps for a client; with TLS, those encrypted already."""
    connection = _connection(transport)
    if connection is None:
        return 0
    return len(connection.dataBuffer) - connection.offset + connection._tempDataLen  # type: ignore[no-any-return]


class DaphneAdapter(ServerAdapter):
    """The adapter to Daphne: `protocol` is autobahn's object of the connection."""

    missing = ""
    waits = False

    def __init__(self, send: Send, protocol: Any, is_wrapped: bool) -> None:
        super().__init__(send)
        self.protocol = protocol
        self._bytes = DaphneTransport(protocol)
        self._is_paused = False
        self._is_held = False
        if not is_wrapped:
            # autobahn would build the frame again for each client, and format log lines for it
            self.frames = self._bytes

    @staticmethod
    def knows(owner: Any) -> bool:
        """Return whether `owner`, the object behind ``send``, is Daphne's."""
        parts = ("sendCloseFrame", "STATE_OPEN", "transport", "state")
        return all(hasattr(owner, part) for part in parts) and hasattr(
            owner.transport, "dataBuffer"
        )

    async def close(self, code: int, timeout: float) -> None:
        # websocket.close reaches autobahn's sendClose, which takes 1000 and 3000-4999 only
        if self.protocol.state == self.protocol.STATE_OPEN:
            # autobahn's own second is too short for a client that has a lot to read first
            self.protocol.closeHandshakeTimeout = timeout
            # Daphne would keep messages that still come, but nothing receives them any more
            self.protocol.muted = True
            if self._is_paused:
                self._resume()
            self.protocol.sendCloseFrame(code=code, isReply=False)
            reader = ClosingReader(self.protocol.dataReceived, self)
            self.protocol.dataReceived = reader

    def let_read(self, reads: bool) -> None:
        transport = self.protocol.transport
        if self.protocol.state != self.protocol.STATE_CLOSED:
            transport.resumeProducing() if reads else transport.pauseProducing()

    def buffered_bytes(self) -> int:
        return self._bytes.get_write_buffer_size()

    def limit_frames(self, size: int) -> None:
        protocol = self.protocol
        protocol.transport.bufferSize = READ_SIZE
        self._pause_at_messages()
        limit = min(size, protocol.maxFramePayloadSize or size)
        protocol.maxFramePayloadSize = limit
        # do not set autobahn's limit for whole messages: it would limit what we send as well
        begin = protocol.onMessageFrameBegin

        def limited(length: int) -> None:
            if 0 < length <= limit < protocol.message_data_total_length + length:
                length = limit + 1  # so that autobahn refuses it with its usual error
            protocol.message_data = joined(protocol.message_data)
            step = LARGE_READ_SIZE if length > LARGE_READ_SIZE else READ_SIZE
            protocol.transport.bufferSize = step
            begin(length)

        protocol.onMessageFrameBegin = limited

    def _pause_at_messages(self) -> None:
        """Stop reading while messages wait for ``receive``: Daphne would keep any number of them."""
        protocol = self.protocol
        on_message = protocol.onMessage

        def pausing(payload: Any, isBinary: bool) -> None:
            on_message(payload, isBinary)
            if not self._is_paused and not protocol.muted:
                self._is_paused = True
                protocol.transport.pauseProducing()

        protocol.onMessage = pausing

    def read_on(self) -> None:
        if self._is_paused and not self._is_held:
            if self.protocol.application_queue.empty():
                self._resume()

    def hold(self, is_held: bool) -> None:
        self._is_held = is_held
        if is_held:
            self._is_paused = True
            self.protocol.transport.pauseProducing()

    def _resume(self) -> None:
        self._is_paused = False
        self.protocol.transport.resumeProducing()

    def is_gone(self) -> bool:
        connection = _connection(self.protocol.transport)
        return is_closed_by_peer(getattr(connection, "socket", None))

    def abort(self) -> None:
        self.protocol.transport.abortConnection()

    def forget(self) -> None:
        emptied(self.protocol.application_queue)
        connection = _connection(self.protocol.transport)
        if connection is None or connection.disconnected:
            return _forget_unsent(connection)
        lost = self.protocol.connectionLost

        def forgetting(reason: Any) -> None:
            lost(reason)
            _forget_unsent(connection)

        self.protocol.connectionLost = forgetting


def _forget_unsent(connection: Any) -> None:
    """Free what Twisted keeps for a client that is gone."""
    if connection is None:
        return
    connection.dataBuffer, connection.offset = b"", 0
    connection._tempDataBuffer, connection._tempDataLen = [], 0


class DaphneHttpAdapter(HttpAdapter):
    """The adapter to a request of Daphne: ``send`` never waits, so `drain` polls Twisted's buffer."""

    #: seconds between two looks at the buffer; the last one repeats
    LOOKS = (0.005, 0.02, 0.05, 0.1)

    def __init__(self, send: Send, request: Any) -> None:
        super().__init__(send)
        self._request = request
        # keep it: a finished request has no channel any more
        self._transport = request.channel.transport

    @staticmethod
    def knows(owner: Any) -> bool:
        """Return whether `owner`, the object behind ``send``, is Daphne's."""
        return hasattr(owner, "_disconnected") and hasattr(owner.channel, "transport")

    def drops_what_it_is_given(self) -> bool:
        return bool(self._request._disconnected)

    def forget(self) -> None:
        # Daphne looks for finished requests once a second; until then it would keep a body that was not read
        emptied(self._request.application_queue)

    async def drain(self) -> None:
        looks = 0
        while _twisted_bytes(self._transport) and not self.drops_what_it_is_given():
            await asyncio.sleep(self.LOOKS[min(looks, len(self.LOOKS) - 1)])
            looks += 1

    def abort(self) -> None:
        self._transport.abortConnection()
