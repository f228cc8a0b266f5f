"""How much a client may send at once, whatever carries it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..logs import get_logger
from ..socket.socket import Socket
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

logger = get_logger("phx_protocol.transport")


def refused(socket: Socket, frame: Frame) -> CloseCode | None:
    """The close code for a `frame` that is too much, or None: it can be taken."""
    limit = socket.options.max_frame_size
    if 4 * len(frame) > limit and _is_larger(frame, limit):
        logger.warning("closing a connection with 1009: more than %d bytes", limit)
        return CloseCode.TOO_LARGE
    waiting, size = socket.waiting, socket.waiting_bytes
    if waiting >= socket.options.inbound or size >= socket.options.inbound_bytes:
        logger.warning(
            "closing a connection with 1013: %d frames wait, %d bytes wait or are handled",
            waiting,
            size,
        )
        return CloseCode.OVERLOADED
    return None


def handle(socket: Socket, frame: Frame) -> None:
    """Have `socket` handle a frame; for what a large one takes of the loop its client pays."""
    if len(frame) < LARGE:
        return socket.handle_in(frame)
    waiting, started = socket.waiting_bytes, time.thread_time()
    socket.handle_in(frame)
    if (
        socket.waiting_bytes == waiting
    ):  # else it waits, and is paid for when it is decoded
        socket.budget.charge(time.thread_time() - started)


def _is_larger(frame: Frame, limit: int) -> bool:
    if isinstance(frame, str) and len(frame) <= limit:
        return len(frame.encode()) > limit
    return len(frame) > limit


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
