"""Finished WebSocket frames, straight to the server's transport, where the server lets us.

No coroutine is stepped, and all who get a broadcast share one ``bytes`` object.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...wire.messages import Frame
from .servers import Edge
from .writer import Outgoing

#: bytes up to which frames of one turn are copied into one
SMALL = 64 * 1024
# the first byte of a message in one frame, neither masked nor compressed
TEXT, BINARY = 0x81, 0x82


def finished(frame: Frame) -> bytes:
    """`frame` as a server puts it on the wire (RFC 6455, 5.2)."""
    if isinstance(frame, str):
        opcode, data = TEXT, frame.encode()
    else:
        opcode, data = BINARY, frame
    size = len(data)
    if size < 126:
        return bytes((opcode, size)) + data
    if size < 65536:
        return b"%c\x7e%b%b" % (opcode, size.to_bytes(2, "big"), data)
    return b"%c\x7f%b%b" % (opcode, size.to_bytes(8, "big"), data)


class Turn:
    """The turn that an event loop is in, while something is written; who has more to write."""

    def __init__(self) -> None:
        self.number = 1
        self.is_on = False
        self.waiting: list[FrameOutgoing] = []

    def begin(self) -> None:
        self.is_on = True
        # not kept: `_turns` would never let go of the loop
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self.number += 1
        if not self.waiting:
            self.is_on = False
            return
        self.begin()
        waiting, self.waiting = self.waiting, []
        for outgoing in waiting:
            outgoing.flush()


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turn]
_turns = weakref.WeakKeyDictionary()


def _turn() -> Turn:
    loop = asyncio.get_running_loop()
    if loop not in _turns:
        _turns[loop] = Turn()
    return _turns[loop]


class FrameOutgoing(Outgoing):
    """One write in a turn of the loop: a system call is what a frame costs.

    The first frame goes out at once; what comes after it in the same turn leaves with the next
    one, joined, and so on while there is more.
    """

    __slots__ = ("_transport", "_turn", "_wrote_in", "_joined")

    def __init__(
        self, edge: Edge, limits: Mapping[str, float], overflowed: Callable[[], None]
    ) -> None:
        super().__init__(edge, limits, overflowed)
        assert edge.frames is not None
        self._transport = edge.frames
        self._turn = _turn()
        self._wrote_in = 0  # the turn in which something went out at once
        self._joined: list[bytes] = []

    prepare: Any = staticmethod(finished)

    def write(self, message: bytes) -> None:
        turn = self._turn
        if self.is_closed:
            return
        if self._wrote_in == turn.number:
            if not self._joined:
                turn.waiting.append(self)
            self._joined.append(message)
            return
        self._wrote_in = turn.number
        if not turn.is_on:
            turn.begin()
        self._put(self._transport.write, message)

    def flush(self) -> None:
        """What has been joined goes out now."""
        if self._joined:
            self._wrote_in = self._turn.number
            joined, self._joined = self._joined, []
            # what is large is not copied: all sockets share it
            if sum(map(len, joined)) < SMALL:
                self._put(self._transport.write, b"".join(joined))
            else:
                self._put(self._transport.writelines, joined)

    def _put(self, write: Callable[[Any], None], data: Any) -> None:
        transport = self._transport
        if transport.is_closing():  # a close frame may be out already
            self.is_closed = True
            return
        write(data)
        if transport.get_write_buffer_size() > self._bound.limit:
            self._bound.check()

    def pending_bytes(self) -> int:
        return sum(map(len, self._joined)) + self.edge.buffered_bytes()

    def stop(self) -> None:
        if not self.is_closed:
            self.flush()
        super().stop()
