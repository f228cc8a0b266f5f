"""The ordinary frame: a whole text message, or a pong, that has arrived completely (RFC 6455, 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from websockets import frames
from websockets.frames import Opcode
from websockets.protocol import Protocol, State

#: the first byte of a frame that is the last one of its message, with no bit of an extension
FIN = 0x80
TEXT, PONG = FIN | Opcode.TEXT, FIN | Opcode.PONG
#: the most bytes that a control frame has, and a frame whose length is in its second byte
SHORT = 125

#: websockets' own: in C where that could be built
_apply_mask: Callable[[bytes, bytes], bytes] = vars(frames)["apply_mask"]


class Read(NamedTuple):
    """A frame that was read: its first byte, its payload, and where the next one begins."""

    first: int
    payload: bytes | bytearray
    end: int


def read(data: bytes, at: int, most: int | None) -> Read | None:
    """Return the frame of a client that begins at `at`; None if it is no ordinary one.

    That includes one that is not complete, is not masked, or has more than `most` bytes.
    """
    if len(data) < at + 6:
        return None
    first, size, begin = data[at], data[at + 1] - 0x80, at + 6
    if size < 0 or first != TEXT and (first != PONG or size > SHORT):
        return None
    if size > SHORT:
        if size != 126:  # a length of 8 bytes
            return None
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        begin += 2
    end = begin + size
    if end > len(data) or most is not None and size > most:
        return None
    return Read(first, _apply_mask(data[begin:end], data[begin - 4 : begin]), end)


def is_between_frames(connection: Protocol) -> bool:
    """Return whether websockets' `connection` keeps nothing that the next frame depends on.

    A version of websockets whose attributes are others is never asked to let go.
    """
    reader = getattr(connection, "reader", None)
    return (
        connection.state is State.OPEN
        and not connection.extensions
        and connection.parser_exc is None
        and getattr(connection, "current_size", 0) is None
        and not getattr(reader, "buffer", b"?")
        and not getattr(connection, "events", "?")
        and not getattr(connection, "writes", "?")
    )
