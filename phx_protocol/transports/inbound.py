"""How much a client may send at once, whatever carries it."""

from __future__ import annotations

from ..logs import get_logger
from ..socket import Socket
from ..wire.messages import Frame
from ..wire.reasons import CloseCode

#: frames that are taken of one socket before the others have a turn
FRAMES_IN_A_TURN = 16

logger = get_logger("phx_protocol.transport")


def refused(socket: Socket, frame: Frame) -> CloseCode | None:
    """The close code for a `frame` that is too much, or None: it can be taken."""
    limit = socket.options.max_frame_size
    if 4 * len(frame) > limit and (size := _size(frame)) > limit:
        logger.warning("closing a connection with 1009: a frame of %d bytes", size)
        return CloseCode.TOO_LARGE
    if socket.waiting >= socket.options.inbound:
        logger.warning("closing a connection with 1013: %d frames wait", socket.waiting)
        return CloseCode.OVERLOADED
    return None


def _size(frame: Frame) -> int:
    return len(frame.encode()) if isinstance(frame, str) else len(frame)
