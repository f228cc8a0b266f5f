"""The timers of a connection: how long it may be silent, and how long it may last."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from ..wire.reasons import CloseCode, Reason

#: Browsers run the timers of a hidden tab once a minute, so its heartbeat comes a little too late.
#: The grace is this part of the timeout, and at most this many seconds.
GRACE, MOST_GRACE = 0.1, 5.0

#: seconds between two looks at a client from which nothing is read
LOOK_EVERY = 1.0


class ConnectionTimers:
    """Close a connection that is silent for `timeout` seconds and a grace, or older than `max_age`.

    The transport sets ``seen_at`` when the client sends something. No timer is set for that:
    the one timer starts again if it fires too early.
    """

    __slots__ = ("seen_at", "now", "_loop", "_timeout", "_close", "_timer", "_age")

    def __init__(
        self,
        timeout: float,
        max_age: float | None,
        close: Callable[[int, Reason], None],
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.now = loop.time
        self.seen_at = loop.time()
        self._timeout = timeout = timeout + min(GRACE * timeout, MOST_GRACE)
        self._close = close
        self._timer = loop.call_later(timeout, self._check)
        self._age: asyncio.TimerHandle | None = None
        if max_age is not None:
            # jitter, so that clients do not reconnect in step
            age = max_age * random.uniform(0.9, 1)
            self._age = loop.call_later(age, close, CloseCode.COME_BACK, Reason.CLOSED)

    def _check(self) -> None:
        left = self.seen_at + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(min(left, self._timeout), self._check)
        else:
            self._close(CloseCode.IDLE, Reason.CLOSED)

    def last_seen(self) -> float:
        """Return ``seen_at`` in seconds of the epoch; now, if it lies in the future.

        A transport sets it to the future while the client need not send anything.
        """
        return time.time() - max(0.0, self._loop.time() - self.seen_at)

    def stop(self) -> None:
        self._close = _ignore  # it is a method of this object's owner
        self._timer.cancel()
        if self._age is not None:
            self._age.cancel()


def _ignore(code: int, reason: Reason) -> None: ...


class GoneWatch:
    """The watch over a client from which nothing is read: then no server notices that it goes.

    It lets `patience` end when `is_gone` is true, now or at one of the looks each second.
    """

    __slots__ = ("_is_gone", "_patience", "_loop", "_timer")

    def __init__(self, is_gone: Callable[[], bool], patience: asyncio.Timeout) -> None:
        self._is_gone = is_gone
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._look()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        if self._is_gone():
            self._patience.reschedule(self._loop.time())

    def stop(self) -> None:
        self._timer.cancel()
