"""Finished frames: what is written, when, and what never goes out behind a close."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from phx_protocol.conf import OUTBOUND
from phx_protocol.signals import messages_dropped
from phx_protocol.transports.servers import RawTransport, adapter_for
from phx_protocol.transports.servers.uvicorn import RAW_TRANSPORT, UvicornAdapter
from phx_protocol.transports.websocket.frame_writer import (
    JOIN_LIMIT,
    FrameWriter,
    build_frame,
)


class Transport:
    """As asyncio's, of a client that reads only when the test lets it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.kept = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, several: list[bytes]) -> None:
        self.written += several

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.kept


class Way:
    """A way out over a Transport."""

    def __init__(self, **limits: float) -> None:
        self.transport: Any = Transport()
        self.sent: list[dict[str, Any]] = []
        self.overflows = 0
        adapter = UvicornAdapter(self._send, None, RawTransport(self.transport))
        self.out = FrameWriter(adapter, {**OUTBOUND, **limits}, self._overflow)

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append({**message, "behind": len(self.transport.written)})

    def _overflow(self) -> None:
        self.overflows += 1

    def write(self, *texts: str) -> None:
        for text in texts:
            self.out.write(self.out.prepare(text))

    @property
    def written(self) -> list[bytes]:
        return list(self.transport.written)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_a_finished_frame_is_what_any_server_would_send(size: int) -> None:
    text, data = "x" * (size - size % 2) + "\u00e9" * (size % 2), b"\x00" * size
    for frame, opcode in ((text, Opcode.TEXT), (data, Opcode.BINARY)):
        raw = frame.encode() if isinstance(frame, str) else frame
        assert build_frame(frame) == Frame(opcode, raw).serialize(mask=False)


async def test_a_socket_is_written_to_once_in_a_turn() -> None:
    way = Way()
    way.write("a", "b", "c")
    assert way.written == [build_frame("a")]
    assert way.out.pending_bytes() == 6  # two frames of one letter
    await asyncio.sleep(0)
    way.write("d")
    assert way.written == [build_frame("a"), build_frame("b") + build_frame("c")]
    await asyncio.sleep(0)
    assert way.written[2:] == [build_frame("d")]
    await asyncio.sleep(0)
    way.write("e")
    assert way.written[3:] == [build_frame("e")]
    assert way.out.pending_bytes() == 0


async def test_every_socket_has_its_own_first_frame() -> None:
    one, two = Way(), Way()
    one.write("a", "b")
    two.write("c")
    assert two.written == [build_frame("c")] and len(one.written) == 1


async def test_large_frames_are_shared_and_not_copied() -> None:
    way, large = Way(), build_frame("x" * JOIN_LIMIT)
    way.write("a")
    way.out.write(large)
    way.out.write(large)
    await asyncio.sleep(0)
    assert [frame is large for frame in way.transport.written] == [False, True, True]


async def test_frames_before_a_close_are_sent_before_it_and_none_after() -> None:
    way = Way()
    way.write("a", "b")
    closing = asyncio.create_task(way.out.close(1001, 5))
    way.out.stop()
    way.write("c")
    await closing
    way.write("d")
    assert way.written == [build_frame("a"), build_frame("b")]
    assert way.sent == [{"type": "websocket.close", "code": 1001, "behind": 2}]


async def test_a_connection_that_the_server_closes_is_written_to_no_more() -> None:
    way = Way()
    way.write("a", "b")
    way.transport.closing = True  # its close frame may be out
    await asyncio.sleep(0)
    way.write("c")
    assert way.written == [build_frame("a")]


async def test_bytes_that_the_server_keeps_count_for_the_overflow() -> None:
    way = Way(bytes=100, seconds=0.01, hard_bytes=1000)
    way.transport.kept = 100
    way.write("a")
    await asyncio.sleep(0.05)
    assert way.overflows == 0
    way.transport.kept = 101  # for longer than `seconds`
    way.write("b")
    while not way.overflows:
        await asyncio.sleep(0.01)
    way.transport.kept = 1001  # at once
    way.write("c")
    assert way.overflows == 2


async def test_frames_that_a_client_has_not_taken_count_as_dropped() -> None:
    way, dropped = Way(bytes=100, seconds=5, hard_bytes=1000), []

    def receive(count: int, where: str, **kwargs: Any) -> None:
        dropped.append((count, where))

    way.write("a")
    await asyncio.sleep(0)
    messages_dropped.connect(receive)
    try:
        for way.transport.kept in (500, 900, 1300):  # since it fell behind
            way.write("b")
            await asyncio.sleep(0)
        assert way.overflows == 1
        way.out.stop()
        way.out.stop()  # once for the overflow, once for the close frame
    finally:
        messages_dropped.disconnect(receive)
    assert dropped == [(3, "outbound")]


async def test_the_transport_that_a_server_offers_is_used_whatever_wraps_send() -> None:
    async def wrapped(message: dict[str, Any]) -> None: ...

    transport = Transport()
    adapter = adapter_for({"state": {RAW_TRANSPORT: RawTransport(transport)}}, wrapped)
    assert adapter.frames is transport
    assert adapter_for({"state": {}}, wrapped).frames is None
    assert adapter_for({}, wrapped).frames is None
