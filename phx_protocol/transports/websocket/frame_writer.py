"""The writer of finished WebSocket frames, for servers that let us write to their transport.

It steps no coroutine, and all clients that get a broadcast share one ``bytes`` object.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...wire.messages import Frame
from ..servers import ServerAdapter
from .writer import Writer

#: frames that wait are joined into one ``bytes`` object if they have fewer bytes than this
JOIN_LIMIT = 64 * 1024
# the first byte of a message in one frame, neither masked nor compressed
TEXT, BINARY = 0x81, 0x82


def build_frame(frame: Frame) -> bytes:
    """Return `frame` with its WebSocket header, as a server sends it (RFC 6455, 5.2)."""
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


class LoopTick:
    """The count of an event loop's ticks while something is written, and the writers that wait."""

    def __init__(self) -> None:
        self.number = 1
        self.is_on = False
        self.waiting: list[FrameWriter] = []

    def begin(self) -> None:
        self.is_on = True
        # do not keep the loop here: then `_ticks` would keep it alive for ever
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self.number += 1
        if not self.waiting:
            self.is_on = False
            return
        self.begin()
        waiting, self.waiting = self.waiting, []
        for writer in waiting:
            writer.flush()


_ticks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopTick]
_ticks = weakref.WeakKeyDictionary()


def _tick() -> LoopTick:
    loop = asyncio.get_running_loop()
    tick = _ticks.get(loop)
    if tick is None:
        tick = _ticks[loop] = LoopTick()
    return tick


class FrameWriter(Writer):
    """A writer that writes once in a tick of the loop, because each write is a system call.

    The first frame goes out at once. Those that come after it in the same tick go out together
    in the next one, and so on while there are more.
    """

    __slots__ = ("_transport", "_tick", "_wrote_in", "_joined")

    def __init__(
        self,
        adapter: ServerAdapter,
        limits: Mapping[str, float],
        overflowed: Callable[[], None],
    ) -> None:
        super().__init__(adapter, limits, overflowed)
        assert adapter.frames is not None
        self._transport = adapter.frames
        self._tick = _tick()
        self._wrote_in = 0  # the number of the last tick in which it wrote
        self._joined: list[bytes] = []

    prepare: Any = staticmethod(build_frame)

    def write(self, message: bytes) -> None:
        tick = self._tick
        if self.is_closed:
            return
        if self._wrote_in == tick.number:
            if not self._joined:
                tick.waiting.append(self)
            self._joined.append(message)
            return
        self._wrote_in = tick.number
        if not tick.is_on:
            tick.begin()
        self._put(self._transport.write, message)

    def flush(self) -> None:
        """Write the frames that wait."""
        if self._joined:
            self._wrote_in = self._tick.number
            joined, self._joined = self._joined, []
            # do not copy large frames: all sockets share them
            if sum(map(len, joined)) < JOIN_LIMIT:
                self._put(self._transport.write, b"".join(joined))
            else:
                self._put(self._transport.writelines, joined)

    def _put(self, write: Callable[[Any], None], data: Any) -> None:
        transport = self._transport
        if transport.is_closing():  # a close frame may have been sent already
            self.is_closed = True
            return
        write(data)
        if transport.get_write_buffer_size() > self._limit:
            self._check()

    def pending_bytes(self) -> int:
        return sum(map(len, self._joined)) + self.adapter.buffered_bytes()

    def stop(self) -> None:
        if not self.is_closed:
            self.flush()
        super().stop()
