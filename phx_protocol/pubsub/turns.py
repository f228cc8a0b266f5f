"""Turns: how the messages of other processes are taken, so that a large one does not hold the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

#: seconds for which the broadcasts of one message may hold the event loop
HELD = 0.015

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

    def take(self, message: Message) -> None:
        """Take a message; at once, unless others wait."""
        if not self._late and len(message.get("items", ())) < 2:
            return self._take_now(message)
        self._late.append(self._take_each(message))
        if len(self._late) == 1:
            self._take_late()

    def _take_late(self) -> None:
        """Take what waits, until others should have the event loop."""
        end = time.monotonic() + HELD
        while self._late:
            for _ in self._late[0]:
                if time.monotonic() > end:
                    loop = asyncio.get_running_loop()
                    loop.call_soon(self._take_late, context=contextvars.Context())
                    return
            self._late.popleft()
