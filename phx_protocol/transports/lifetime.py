"""Lifetime: how long a connection may be silent, and how long it may last."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable


class Lifetime:
    """Calls `idle` after `timeout` seconds without ``seen_at`` moving, `over` after `max_age`.

    One timer, which looks again when it was too early: none per frame.
    """

    __slots__ = ("seen_at", "_loop", "_timeout", "_idle", "_timer", "_age")

    def __init__(
        self,
        timeout: float,
        max_age: float | None,
        idle: Callable[[], None],
        over: Callable[[], None],
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.seen_at = loop.time()
        self._timeout = timeout
        self._idle = idle
        self._timer = loop.call_later(timeout, self._check)
        self._age: asyncio.TimerHandle | None = None
        if max_age is not None:
            # those that came at once shall not all come back at once
            self._age = loop.call_later(max_age * random.uniform(0.9, 1), over)

    def _check(self) -> None:
        left = self.seen_at + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(min(left, self._timeout), self._check)
        else:
            self._idle()

    def stop(self) -> None:
        self._timer.cancel()
        if self._age is not None:
            self._age.cancel()
