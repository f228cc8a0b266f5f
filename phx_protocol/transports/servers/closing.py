"""ClosingReader: what a client still sends after our close frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: the loop has this many times as long for others as it spends on such a client
OTHERS = 20
#: seconds of the longest pause: the garbage collector may have run in a step
LONGEST = 0.25


class Connection(Protocol):
    """The methods of a server's adapter that ClosingReader calls."""

    def let_read(self, reads: bool) -> None: ...
    def is_gone(self) -> bool: ...
    def abort(self) -> None: ...


class ClosingReader:
    """The ``data_received`` of a connection that is being closed: it reads slowly.

    A server reads on until it finds the client's own close frame, and throws away what comes before
    it. A client that never answers, and sends as fast as it can, would have all that read and
    parsed until the closing handshake times out; one that has gone, what it sent before.
    """

    __slots__ = ("_received", "_connection")

    def __init__(
        self, received: Callable[[bytes], None], connection: Connection
    ) -> None:
        self._received = received
        self._connection = connection

    def __call__(self, data: bytes) -> None:
        started = time.thread_time()
        self._received(data)
        pause = min((time.thread_time() - started) * OTHERS, LONGEST)
        self._connection.let_read(False)
        asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        if self._connection.is_gone():
            self._connection.abort()
        else:
            self._connection.let_read(True)
