"""The limits of what a client may send, the same for every transport."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

from ..logs import get_logger
from ..socket.connection import Connection
from ..socket.loop_budgets import turn
from ..wire.messages import Frame
from ..wire.reasons import CloseCode

#: frames of one socket that are handled before the other sockets run
FRAMES_PER_TURN = 16
#: FLOOD frames in FLOOD_SECONDS are a flood: then the others run after each frame
FLOOD = 256
FLOOD_SECONDS = 0.2
#: a flood is over when at most this many frames came in FLOOD_SECONDS
STILL_A_FLOOD = FLOOD // 8

#: the time that a frame takes is measured if it has at least this many bytes or characters
LARGE = 1024

#: Lists, objects and long numbers cost more to decode than to send. A frame may have one list or
#: object for every BYTES_OF_A_LIST bytes of MAX_FRAME_SIZE, and numbers of at most DIGITS digits.
#: A frame that is too short to have more lists is not searched.
BYTES_OF_A_LIST = 4
DIGITS = 1000


def _kind(character: int) -> int:
    """Return "0" for a digit, " " for what may stand before a number, "x" for all else."""
    if character in b"0123456789":
        return ord("0")
    return ord(" ") if character in b"[,:- \t\r\n" else ord("x")


_KINDS = bytes(map(_kind, range(256)))
_LONG_NUMBER = b" " + b"0" * (DIGITS + 1)

CROWD = "large frames of too many new clients wait for their turn"

logger = get_logger("phx_protocol.transport")


def take(connection: Connection, frame: Frame) -> CloseCode | None:
    """Let `connection` handle a frame, or return the close code if a limit forbids it.

    The time that a large frame takes is charged to its client: it waits before the next one.
    """
    if len(frame) < LARGE:
        return _take(connection, frame)
    with connection.backlog.budget.charged():
        return _take(connection, frame)


@contextlib.asynccontextmanager
async def in_turn(
    connection: Connection, frame: Frame
) -> AsyncIterator[CloseCode | None]:
    """Wait until `connection` may handle a large frame; give a close code instead if too many wait."""
    # its memory, not its characters: one may take four bytes
    budget, size = connection.backlog.budget, sys.getsizeof(frame)
    if not budget.may_wait(size):
        logger.warning("closing a connection with 1013: %s", CROWD)
        yield CloseCode.OVERLOADED
        return
    async with budget.turn_as_new(size), turn(size, budget):
        yield None


def _take(connection: Connection, frame: Frame) -> CloseCode | None:
    options, backlog = connection.options, connection.backlog
    limit = options.max_frame_size
    if BYTES_OF_A_LIST * len(frame) > limit and (excess := _oversized(frame, limit)):
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


def _oversized(frame: Frame, limit: int) -> str | None:
    """Return what `frame` has too much of, or None; `limit` is MAX_FRAME_SIZE in bytes."""
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


class ReadPacer:
    """The pace at which frames of one connection are handled, so that other sockets run too."""

    __slots__ = ("_loop", "_frames", "_began", "_per_turn", "_flooded", "_recent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flooded: Callable[[bool], None]
    ) -> None:
        self._loop = loop
        self._frames = 0
        self._began = loop.time()
        self._per_turn = FRAMES_PER_TURN
        self._flooded = (
            flooded  # called with True when a flood begins, with False at its end
        )
        self._recent = 0  # frames since the last `_look`

    def is_over(self, now: float) -> bool:
        """Count a frame; return whether other sockets must run before it is handled."""
        if now - self._began > FLOOD_SECONDS:
            self._frames, self._began = 0, now
        self._frames += 1
        self._recent += 1
        if self._frames == FLOOD and self._per_turn != 1:
            self._per_turn = 1
            self._flooded(True)
            self._look_later()
        return self._frames % self._per_turn == 0

    def _look_later(self) -> None:
        self._recent = 0
        self._loop.call_later(FLOOD_SECONDS, self._look)

    def _look(self) -> None:
        # small reads slow a flood down, so fewer frames than FLOOD still count as one
        if self._recent > STILL_A_FLOOD:
            self._look_later()
        else:
            self._per_turn = FRAMES_PER_TURN
            self._flooded(False)
