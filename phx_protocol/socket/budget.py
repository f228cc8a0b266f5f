"""Budget: how much of one client's large payloads is decoded at once, and how soon the next."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

#: seconds of the loop that a payload may take without any other consequence
FREE = 0.001
#: seconds of the loop, beyond these, that a client may take at once, and that it earns in a second
CREDIT = 0.1
EARNED = 0.005
#: seconds that the others have between two things that took long
PAUSE = 0.02

#: bytes of JSON from which on a payload counts for the whole process, bytes of memory that those
#: take that are decoded at once, and seconds after which those that wait are let in one by one
LARGE = 32 * 1024
OF_ALL = 48 * 1024 * 1024
PATIENCE = 5.0
#: bytes of memory for each list, object, quotation mark and value, about
WEIGHTS = ((b"[", 96), (b"{", 256), (b'"', 28), (b",", 32))


class Budget:
    """Bytes that are taken and given back, and time of the loop: first come, first served.

    What is larger than the whole budget is let through alone. While JSON of a client is read or
    written nobody else has a turn: that time the client pays for. Who has overdrawn its credit
    waits until it has earned it back.
    """

    __slots__ = (
        "_limit",
        "_taken",
        "_waiting",
        "_paid_at",
        "_next_at",
        "_timer",
        "_in_order",
    )

    def __init__(self, limit: int, in_order: bool = True) -> None:
        self._limit = limit
        self._in_order = in_order  # else what is small passes what is too large for now
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._paid_at = 0.0  # when the client has earned back all that it took
        self._next_at = 0.0  # when the loop has time for it again, on credit
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, size: int) -> None:
        """Wait behind earlier calls until `size` bytes are free, and take them."""
        now = (
            _now()
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
        self._let_in()

    @contextlib.contextmanager
    def charged(self) -> Iterator[None]:
        """Charge the client for the time of the block, which must not wait for anything."""
        started = time.thread_time()
        try:
            yield
        finally:
            # the garbage collector may have run meanwhile, which is not this client's doing
            beyond = min(time.thread_time() - started - FREE, CREDIT)
            if beyond > 0:
                now = _now()
                self._paid_at = max(self._paid_at, now) + beyond / EARNED
                self._next_at = max(now + PAUSE, self._paid_at - CREDIT / EARNED)

    def owed(self) -> float:
        """Seconds until the loop has time for the client again."""
        return max(0.0, self._next_at - _now())

    async def pause(self) -> None:
        """Let the others have their turns, when what was done took long."""
        if self._next_at > _now():
            await asyncio.sleep(PAUSE)

    def _let_in(self) -> None:
        now = _now()
        for entry in list(self._waiting):
            size, turn = entry
            if turn.done():
                self._waiting.remove(entry)
            elif self._fits(size, now):
                self._waiting.remove(entry)
                self._taken += size
                turn.set_result(None)
                # the next one when it is known what this one takes
                asyncio.get_running_loop().call_soon(self._let_in)
                return
            elif self._in_order:
                break
        if self._waiting:
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        """Look again when there is time for the client; bytes that are given back earlier do not change that."""
        if self._timer is None and self._next_at > now:
            self._timer = asyncio.get_running_loop().call_at(self._next_at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._let_in()

    def _fits(self, size: int, now: float) -> bool:
        if self._next_at > now:
            return False
        return not self._taken or self._taken + size <= self._limit


def _now() -> float:
    return asyncio.get_running_loop().time()


_of_all: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Budget, Budget]]
_of_all = weakref.WeakKeyDictionary()


def weight(payload: bytes) -> int:
    """Bytes of memory that the value of `payload` takes, about: a text with marks counts for more."""
    return len(payload) + sum(payload.count(mark) * each for mark, each in WEIGHTS)


@contextlib.asynccontextmanager
async def room(payload: Any) -> AsyncIterator[None]:
    """Wait until `payload`, a ``msgspec.Raw``, may be decoded beside those of all other clients."""
    if not isinstance(payload, msgspec.Raw) or len(memoryview(payload)) < LARGE:
        yield
        return
    loop = asyncio.get_running_loop()
    if loop not in _of_all:
        _of_all[loop] = Budget(OF_ALL, in_order=False), Budget(1)
    budget, for_the_impatient = _of_all[loop]
    size = weight(bytes(payload))
    try:
        async with asyncio.timeout(PATIENCE):
            await budget.take(size)
    except TimeoutError:
        budget = for_the_impatient
        await budget.take(size)
    try:
        yield
    finally:
        budget.give_back(size)
