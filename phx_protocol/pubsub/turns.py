"""Turns: how the messages of other processes are taken, so that a large one does not hold the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

#: seconds for which broadcasts of other processes may hold the event loop
HELD = 0.015
#: seconds between two messages after which the event loop has done something else
GAP = 0.00005
#: messages that may wait before no more are read
MANY = 1000

Message = dict[str, Any]


class Turns:
    """Takes messages at once and in order; one of many broadcasts lets others have the event loop."""

    def __init__(
        self,
        take_now: Callable[[Message], None],
        take_each: Callable[[Message], Iterator[None]],
    ) -> None:
        self._take_now = take_now
        self._take_each = take_each
        # the rest of a message of many broadcasts, and the messages behind it
        self._late: deque[Iterator[None]] = deque()
        # when the last message was taken, and until when messages may be taken at once
        self._last = self._end = 0.0

    @property
    def is_behind(self) -> bool:
        """True if so many messages wait that no more should be read."""
        return len(self._late) >= MANY

    def take(self, message: Message) -> None:
        """Take a message; at once, unless others wait or should have the event loop."""
        now = time.monotonic()
        if now - self._last > GAP:
            self._end = now + HELD
        is_over = now > self._end
        if not self._late and not is_over and not _has_many(message):
            self._take_now(message)
            self._last = time.monotonic()
            return
        self._late.append(self._take_each(message))
        if len(self._late) == 1:
            if is_over:
                self._take_later()
            else:
                self._take_late()

    def _take_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._begin, context=contextvars.Context())

    def _begin(self) -> None:
        self._end = time.monotonic() + HELD
        self._take_late()

    def _take_late(self) -> None:
        """Take what waits, until others should have the event loop."""
        while self._late:
            for _ in self._late[0]:
                if time.monotonic() > self._end:
                    return self._take_later()
            self._late.popleft()
        self._last = time.monotonic()


def _has_many(message: Message) -> bool:
    items = message.get("items")
    return isinstance(items, list) and len(items) > 1
