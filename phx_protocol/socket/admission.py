"""Admission: how many channels one client may join, and the order in which joins are decided."""

from __future__ import annotations

import asyncio
from collections import deque

#: waiting joins that are answered before other sockets run: each answer wakes a task
AT_ONCE = 16


class Admission:
    """The places of one socket for channels (setting MAX_CHANNELS).

    Each join takes a place before ``join`` is called. Joins get their places in the order in
    which they came. A join waits only if the joins before it may take the last places. Each step
    costs the same, however many joins wait.
    """

    __slots__ = (
        "limit",
        "_joined",
        "_undecided",
        "_waiting",
        "_is_scheduled",
        "is_closed",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._joined = 0
        self._undecided = 0  # joins that have a place and no decision yet
        self._waiting: deque[asyncio.Future[bool]] | None = (
            None  # an empty one is 0.7 KiB
        )
        self._is_scheduled = False  # True if `_answer` will run soon
        self.is_closed = False  # True if the client is gone: no join waits any more

    async def enter(self) -> bool:
        """Take a place until ``decided`` is called; return False if there is none left."""
        if not self._waiting and self._joined + self._undecided < self.limit:
            self._undecided += 1
            return True
        if self.is_closed or not self._waiting and not self._undecided:
            return False
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting = self._waiting or deque()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                self.decided(False)
            raise

    def rejoin(self) -> None:
        """Keep the place of a channel for the join that replaces it."""
        self._joined -= 1
        self._undecided += 1

    def decided(self, joined: bool) -> None:
        """Keep the place of a join that succeeded; otherwise give it to the next join."""
        self._undecided -= 1
        self._joined += joined
        self._next()

    def left(self) -> None:
        """Give the place of a channel that has ended to the next join."""
        self._joined -= 1
        self._next()

    def close(self) -> None:
        """Refuse the joins that wait: the client is gone, and ``join`` has not been called."""
        self.is_closed = True
        self._next()

    def _next(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        """Give waiting joins their places, or refuse them if there are none left, AT_ONCE at a time."""
        self._is_scheduled = False
        for _ in range(AT_ONCE):
            has_room = (
                not self.is_closed and self._joined + self._undecided < self.limit
            )
            is_decided = has_room or self.is_closed or not self._undecided
            if not self._waiting or not is_decided:
                return
            place = self._waiting.popleft()
            if not place.done():
                self._undecided += has_room
                place.set_result(has_room)
        self._next()
