"""Only a whole text message in one frame, and a pong, are read without websockets."""

from __future__ import annotations

import secrets

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

from phx_protocol.contrib.uvicorn.frames import PONG, TEXT, is_between_frames, read


def wire(data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4000, 65535])
def test_a_text_is_read_wherever_it_begins(size: int) -> None:
    data = secrets.token_bytes(size)
    frame = read(b"before" + wire(data) + b"behind", 6, None)
    assert frame is not None
    assert (frame.first, frame.payload) == (TEXT, data)
    assert frame.end == 6 + len(wire(data))


def test_a_pong_is_read() -> None:
    frame = read(wire(b"abcd", Opcode.PONG), 0, None)
    assert frame is not None
    assert (frame.first, frame.payload) == (PONG, b"abcd")


def long_pong() -> bytes:
    return bytes((PONG, 0x80 | 126)) + (126).to_bytes(2, "big") + bytes(4 + 126)


OTHERS = {
    "the first part of a text": wire(b"x", fin=False),
    "the last part of a text": wire(b"x", Opcode.CONT),
    "a binary one": wire(b"x", Opcode.BINARY),
    "a ping": wire(b"x", Opcode.PING),
    "a close": wire(b"\x03\xe8", Opcode.CLOSE),
    "a length of eight bytes": wire(b"x" * 65536),
    "a long pong": long_pong(),
    "not masked": Frame(Opcode.TEXT, b"not masked").serialize(mask=False),
    "long and not masked": Frame(Opcode.TEXT, b"x" * 126).serialize(mask=False),
    **{
        f"the first byte {first:#x}": bytes((first,)) + wire(b"x")[1:]
        for first in (0xC1, 0xA1, 0x91, 0x83, 0x87, 0x8B, 0x8F)
    },
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_any_other_frame_is_left_to_websockets(data: bytes) -> None:
    assert read(data, 0, None) is None


@pytest.mark.parametrize("size", [0, 5, 125, 126, 300])
def test_a_frame_in_part_is_left_to_websockets(size: int) -> None:
    data = wire(b"x" * size)
    assert all(read(data[:end], 0, None) is None for end in range(len(data)))


def test_a_frame_that_is_too_large_is_left_to_websockets_which_closes_with_1009() -> (
    None
):
    assert read(wire(b"x" * 1000), 0, 999) is None
    assert read(wire(b"x" * 1000), 0, 1000) is not None


def parser() -> Protocol:
    return ServerProtocol(state=State.OPEN)


has_known_names = pytest.mark.skipif(
    not hasattr(parser(), "current_size"), reason="an old version of websockets"
)


@has_known_names
@pytest.mark.parametrize(
    "data", [wire(b"x"), wire(b"x", Opcode.PING), b""], ids=["text", "ping", "nothing"]
)
def test_a_parser_that_has_read_whole_messages_keeps_nothing(data: bytes) -> None:
    connection = parser()
    if data:
        connection.receive_data(data)
    connection.events_received(), connection.data_to_send()
    assert is_between_frames(connection)


@pytest.mark.parametrize(
    "data",
    [
        wire(b"x")[:3],
        wire(b"x", fin=False),
        wire(b"\x03\xe8", Opcode.CLOSE),
        b"\xff\xff",
    ],
    ids=["a part", "a fragment", "a close", "no frame"],
)
def test_a_parser_that_expects_more_or_nothing_is_kept(data: bytes) -> None:
    connection = parser()
    connection.receive_data(data)
    connection.events_received(), connection.data_to_send()
    assert not is_between_frames(connection)


def test_a_parser_with_something_to_hand_out_is_kept() -> None:
    connection = parser()
    connection.receive_data(wire(b"x", Opcode.PING))
    assert not is_between_frames(connection)


@has_known_names
def test_a_parser_that_is_not_as_we_know_it_is_kept() -> None:
    class Other(Protocol):
        def __getattribute__(self, name: str) -> object:
            if name in ("reader", "current_size"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    known = Protocol(Side.SERVER)
    assert is_between_frames(known)
    known.__class__ = Other
    assert not is_between_frames(known)
