"""Daphne's own protocol object, on a transport in memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from phx_protocol.transports.servers import adapter_for
from phx_protocol.transports.servers.daphne import (
    LARGE_READ_SIZE,
    READ_SIZE,
    DaphneAdapter,
)

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Protocol(WebSocketProtocol):  # type: ignore[misc]
    """A connection that is accepted, without a server around it."""

    client_addr = "a.test"

    def onConnect(self, request: Any) -> None:
        self.application_queue: asyncio.Queue[Any] = asyncio.Queue()

    def onOpen(self) -> None: ...


class Transport(StringTransport):  # type: ignore[misc]
    """As Twisted's for TCP, with its buffer."""

    dataBuffer, offset, _tempDataLen = b"12345", 2, 10

    def unregisterProducer(self) -> None: ...

    def abortConnection(self) -> None:
        self.loseConnection()


def frame(payload: bytes, *, first: bool = True, last: bool = True) -> bytes:
    """A masked frame of a text message, of 126 to 65535 bytes; the mask changes nothing."""
    head = bytes([last << 7 | first, 0x80 | 126]) + len(payload).to_bytes(2, "big")
    return head + bytes(4) + payload


@pytest.fixture
async def protocol() -> Any:
    factory = WebSocketServerFactory(reactor=Clock())
    factory.protocol = Protocol
    protocol: Any = factory.buildProtocol(None)
    protocol.makeConnection(Transport())
    protocol.dataReceived(UPGRADE)
    assert protocol.state == protocol.STATE_OPEN
    protocol.transport.clear()
    return protocol


def adapter_of(protocol: Any) -> DaphneAdapter:
    def handle_reply(protocol: Any, message: Any) -> None: ...

    adapter = adapter_for({"type": "websocket"}, partial(handle_reply, protocol))
    assert isinstance(adapter, DaphneAdapter)
    return adapter


async def test_it_is_closed_with_a_code_that_autobahn_refuses(protocol: Any) -> None:
    with pytest.raises(Exception, match="1011"):
        protocol.sendClose(code=1011)
    await adapter_of(protocol).close(1011, timeout=5)
    assert protocol.transport.value() == b"\x88\x02" + (1011).to_bytes(2, "big")


async def test_it_reads_slowly_once_it_has_sent_a_close_frame(protocol: Any) -> None:
    await adapter_of(protocol).close(1013, timeout=5)
    assert protocol.transport.producerState == "producing"
    protocol.dataReceived(frame(b"x" * 200))
    assert protocol.transport.producerState == "paused"
    async with asyncio.timeout(5):
        while protocol.transport.producerState == "paused":
            await asyncio.sleep(0.001)
    assert protocol.state == protocol.STATE_CLOSING
    protocol.dataReceived(b"\x88\x82\0\0\0\0" + (1013).to_bytes(2, "big"))
    assert protocol.wasClean  # it still finds the client's own


async def test_what_twisted_keeps_for_the_client_is_counted(protocol: Any) -> None:
    adapter = adapter_of(protocol)
    assert adapter.frames is not None and not adapter.waits
    assert adapter.buffered_bytes() == adapter.frames.get_write_buffer_size() == 13


async def test_it_reads_nothing_while_a_message_waits(protocol: Any) -> None:
    adapter = adapter_of(protocol)
    adapter.limit_frames(1000)
    protocol.dataReceived(frame(b"hello" * 100))
    assert protocol.transport.producerState == "paused"
    adapter.read_on()  # it still waits
    assert protocol.transport.producerState == "paused"
    assert protocol.application_queue.get_nowait()["text"] == "hello" * 100
    adapter.read_on()
    assert protocol.transport.producerState == "producing"


async def test_it_reads_nothing_while_it_is_held(protocol: Any) -> None:
    adapter = adapter_of(protocol)
    adapter.hold(True)
    adapter.read_on()
    assert protocol.transport.producerState == "paused"
    adapter.hold(False)
    adapter.read_on()
    assert protocol.transport.producerState == "producing"


@pytest.mark.parametrize("sizes, is_refused", [((500, 500), False), ((501, 500), True)])
async def test_the_frames_of_a_message_are_limited_together(
    sizes: tuple[int, int], is_refused: bool, protocol: Any
) -> None:
    adapter_of(protocol).limit_frames(1000)
    first, last = (b"x" * size for size in sizes)
    protocol.dataReceived(frame(first, last=False))
    protocol.dataReceived(frame(last, first=False))
    assert protocol.transport.disconnecting is is_refused
    assert protocol.application_queue.empty() is is_refused


async def test_it_reads_little_at_once_but_for_a_large_frame(protocol: Any) -> None:
    adapter_of(protocol).limit_frames(100_000)
    assert protocol.transport.bufferSize == READ_SIZE
    protocol.dataReceived(frame(b"x" * 10_000)[:100])
    assert protocol.transport.bufferSize == LARGE_READ_SIZE
