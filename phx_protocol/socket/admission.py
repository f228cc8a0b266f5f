"""Admission: how many channels one client may join, and the order in which joins are decided."""

from __future__ import annotations

import asyncio
from collections import deque

#: joins that wait and are answered before the other sockets run: each is a task that wakes up
AT_ONCE = 16


class Admission:
    """The places of one socket (setting MAX_CHANNELS); each join takes one before ``join`` is called.

    Joins are let in in the order they came: one waits only while those before it may still
    take the last places. Every step costs the same, however many wait.
    """

    __slots__ = ("limit", "_joined", "_asked", "_waiting", "_is_scheduled")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._joined = 0
        self._asked = 0  # joins that have a place and are not decided
        self._waiting: deque[asyncio.Future[bool]] | None = (
            None  # an empty one is 0.7 KiB
        )
        self._is_scheduled = False  # that those who wait are answered

    async def enter(self) -> bool:
        """Take a place, which ``decided`` gives back or keeps; False when there is none left."""
        if not self._waiting and self._joined + self._asked < self.limit:
            self._asked += 1
            return True
        if not self._waiting and not self._asked:
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
        """Keep the place of a channel that ends for the join that replaces it."""
        self._joined -= 1
        self._asked += 1

    def decided(self, joined: bool) -> None:
        """Keep the place of a join that was let in, or give it to the next one."""
        self._asked -= 1
        self._joined += joined
        self._next()

    def left(self) -> None:
        """Give the place of a channel that has ended to the next join."""
        self._joined -= 1
        self._next()

    def _next(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        """Give those who wait their places, or tell them that there are none, AT_ONCE at a time."""
        self._is_scheduled = False
        for _ in range(AT_ONCE):
            has_room = self._joined + self._asked < self.limit
            if not self._waiting or (self._asked and not has_room):
                return
            place = self._waiting.popleft()
            if not place.done():
                self._asked += has_room
                place.set_result(has_room)
        self._next()
