"""Budget: how many large payloads are decoded at the same time, and how soon the next one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator

#: seconds of the loop that a payload may take for free
FREE = 0.001
#: seconds of the loop, beyond the free ones, that a client may take at once; and the seconds that
#: it earns back in each second
CREDIT = 0.1
EARNED = 0.005
#: seconds that other clients get between two large payloads of one client
PAUSE = 0.02


class Budget:
    """A limit of bytes that are in use at the same time, and of the time that they take from the loop.

    Calls of ``take`` wait in their order. A size beyond the whole limit gets through when nothing
    else is in use. While the loop decodes or encodes JSON of a client, it does nothing for others:
    the client pays for this time. A client that has spent more than its `credit` waits until it has
    earned that back, `earned` seconds in each second. After each time that it pays it waits `pause`
    seconds in any case.
    """

    __slots__ = (
        "_limit",
        "_credit",
        "_earned",
        "_pause",
        "_taken",
        "_waiting",
        "_paid_at",
        "_next_at",
        "_timer",
        "_in_order",
    )

    def __init__(
        self,
        limit: int,
        *,
        credit: float = CREDIT,
        earned: float = EARNED,
        pause: float = PAUSE,
        in_order: bool = True,
    ) -> None:
        self._limit = limit
        self._credit, self._earned, self._pause = credit, earned, pause
        self._in_order = in_order  # if False, a small size may pass a larger one that does not fit yet
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._paid_at = 0.0  # when the client will have earned back all its time
        self._next_at = 0.0  # when its next payload may be handled, on credit
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, size: int) -> None:
        """Wait behind earlier calls until `size` bytes are free, and take them."""
        now = (
            loop_time()
        )  # read once: else the time could come between the two questions, unseen
        if not (self._waiting and self._in_order) and self._fits(size, now):
            self._taken += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._look_later(now)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Free `size` bytes for the calls that wait."""
        self._taken -= size
        self._let_through()

    @contextlib.asynccontextmanager
    async def taken(self, size: int, until: float | None = None) -> AsyncIterator[None]:
        """Take `size` bytes for the block; if they are not free `until` that time, go on without."""
        try:
            async with asyncio.timeout_at(until):
                await self.take(size)
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self.give_back(size)

    @contextlib.contextmanager
    def charged(self) -> Iterator[None]:
        """Charge the client for the time that the block takes. The block must not wait for anything."""
        started = time.thread_time()
        try:
            yield
        finally:
            # at most CREDIT: the garbage collector may have run in it, and that is not the client's fault
            beyond = min(time.thread_time() - started - FREE, CREDIT)
            if beyond > 0:
                self.charge(beyond)

    def charge(self, seconds: float) -> None:
        """Let the client pay for so many seconds of the loop."""
        now = loop_time()
        self._paid_at = max(self._paid_at, now) + seconds / self._earned
        on_credit = self._paid_at - self._credit / self._earned
        self._next_at = max(now + self._pause, on_credit)

    def owed(self) -> float:
        """Return the seconds until the next payload of the client may be handled."""
        return max(0.0, self._free_at() - loop_time())

    async def pause(self) -> None:
        """Let other clients run, if the last block took long."""
        if self._free_at() > loop_time():
            await asyncio.sleep(self._pause)

    def _free_at(self) -> float:
        """Return the time from which on the next payload may be handled."""
        return self._next_at

    def _let_through(self) -> None:
        now = loop_time()
        for entry in list(self._waiting):
            size, turn = entry
            if turn.done():
                self._waiting.remove(entry)
            elif self._fits(size, now):
                self._waiting.remove(entry)
                self._taken += size
                turn.set_result(None)
                # the next one later, when the time of this one is known
                asyncio.get_running_loop().call_soon(self._let_through)
                return
            elif self._in_order:
                break
        if self._waiting:
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        """Try again when the client has earned its time back; free bytes alone do not help before that."""
        if self._timer is None and (free_at := self._free_at()) > now:
            self._timer = asyncio.get_running_loop().call_at(free_at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._let_through()

    def _fits(self, size: int, now: float) -> bool:
        if self._free_at() > now:
            return False
        return not self._taken or self._taken + size <= self._limit


def loop_time() -> float:
    """Return the time of the running event loop, in seconds."""
    return asyncio.get_running_loop().time()
