"""How much a client may send at once, whatever carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..logs import get_logger
from ..socket.connection import Connection
from ..wire.messages import Frame
from ..wire.reasons import CloseCode

#: frames that are taken of one socket before the others have a turn
FRAMES_IN_A_TURN = 16
#: so many frames in so many seconds are a flood, of which one is taken in a turn
FLOOD = 256
FLOOD_SECONDS = 0.2
#: so few frames in so many seconds are none any more
STILL_A_FLOOD = FLOOD // 8

#: bytes or characters from which on it is measured what a frame takes
LARGE = 1024

#: what is dearer to decode than to send: lists and objects, of which a frame may have one for so many
#: bytes that it may be long, and numbers of many digits. Only a frame longer than one byte for each
#: list that it may have is looked through
BYTES_OF_A_LIST = 4
DIGITS = 1000


def _kind(character: int) -> int:
    """A digit, what may stand before a number, or something else."""
    if character in b"0123456789":
        return ord("0")
    return ord(" ") if character in b"[,:- \t\r\n" else ord("x")


_KINDS = bytes(map(_kind, range(256)))
_LONG_NUMBER = b" " + b"0" * (DIGITS + 1)

logger = get_logger("phx_protocol.transport")


def take(connection: Connection, frame: Frame) -> CloseCode | None:
    """Have `connection` handle a frame, or return the close code for one that is too much.

    For what a large frame takes of the loop its client pays.
    """
    if len(frame) < LARGE:
        return _take(connection, frame)
    with connection.backlog.budget.charged():
        return _take(connection, frame)


def _take(connection: Connection, frame: Frame) -> CloseCode | None:
    options, backlog = connection.options, connection.backlog
    limit = options.max_frame_size
    if BYTES_OF_A_LIST * len(frame) > limit and (excess := _excess(frame, limit)):
        logger.warning("closing a connection with 1009: more than %s", excess)
        return CloseCode.TOO_LARGE
    waiting, size = backlog.frames, backlog.frame_bytes
    if waiting >= options.inbound or size >= options.inbound_bytes:
        logger.warning(
            "closing a connection with 1013: %d frames wait, %d bytes wait or are handled",
            waiting,
            size,
        )
        return CloseCode.OVERLOADED
    connection.handle_in(frame)
    return None


def _excess(frame: Frame, limit: int) -> str | None:
    """What `frame` has too much of, where it may be as many bytes long as `limit` says."""
    text = frame.encode() if isinstance(frame, str) else frame
    if len(text) > limit:
        return f"{limit} bytes"
    if text.lstrip()[:1] not in (b"[", b"{"):
        return None  # no JSON
    lists = limit // BYTES_OF_A_LIST
    if text.count(b"[") + text.count(b"{") > lists:
        return f"{lists} lists and objects"
    if _LONG_NUMBER in text.translate(_KINDS):
        return f"{DIGITS} digits in a number"
    return None


class Turns:
    """When the others have a turn before the next frame of a connection is taken."""

    __slots__ = ("_loop", "_frames", "_began", "_in_one", "_flooded", "_recent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flooded: Callable[[bool], None]
    ) -> None:
        self._loop = loop
        self._frames = 0
        self._began = loop.time()
        self._in_one = FRAMES_IN_A_TURN
        self._flooded = flooded  # called when a flood of the client begins, and ends
        self._recent = 0  # frames since it was looked whether the flood is over

    def is_over(self, now: float) -> bool:
        """Count a frame: whether it has to wait for the next turn."""
        if now - self._began > FLOOD_SECONDS:
            self._frames, self._began = 0, now
        self._frames += 1
        self._recent += 1
        if self._frames == FLOOD and self._in_one != 1:
            self._in_one = 1
            self._flooded(True)
            self._look_later()
        return self._frames % self._in_one == 0

    def _look_later(self) -> None:
        self._recent = 0
        self._loop.call_later(FLOOD_SECONDS, self._look)

    def _look(self) -> None:
        # in small steps a flood is slower than it would be
        if self._recent > STILL_A_FLOOD:
            self._look_later()
        else:
            self._in_one = FRAMES_IN_A_TURN
            self._flooded(False)
