"""How much a client may send at once, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable

from ..logs import get_logger
from ..socket import Socket
from ..wire.messages import Frame
from ..wire.reasons import CloseCode

#: frames that are taken of one socket before the others have a turn
FRAMES_IN_A_TURN = 16
#: so many frames in so many seconds are a flood, of which one is taken in a turn
FLOOD = 256
FLOOD_SECONDS = 0.2

logger = get_logger("phx_protocol.transport")


def refused(socket: Socket, frame: Frame) -> CloseCode | None:
    """The close code for a `frame` that is too much, or None: it can be taken."""
    limit = socket.options.max_frame_size
    if 4 * len(frame) > limit and (size := _size(frame)) > limit:
        logger.warning("closing a connection with 1009: a frame of %d bytes", size)
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


def _size(frame: Frame) -> int:
    return len(frame.encode()) if isinstance(frame, str) else len(frame)


class Turns:
    """When the others have a turn before the next frame of a connection is taken."""

    __slots__ = ("_frames", "_began", "_in_one", "_flooded")

    def __init__(self, now: float, flooded: Callable[[], None]) -> None:
        self._frames = 0
        self._began = now
        self._in_one = FRAMES_IN_A_TURN
        self._flooded = flooded  # called when the client has sent a flood

    def is_over(self, now: float) -> bool:
        """Count a frame: whether it has to wait for the next turn."""
        self._frames += 1
        if self._frames == FLOOD:
            if now - self._began < FLOOD_SECONDS:
                self._in_one = 1
                self._flooded()
            self._frames, self._began = 0, now
        return self._frames % self._in_one == 0
