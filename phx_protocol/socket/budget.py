"""Budget: how many large payloads are decoded at the same time, and how soon the next one."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

#: seconds of the loop that a payload may take for free
FREE = 0.001
#: seconds of the loop, beyond the free ones, that a client may take at once; and the seconds that
#: it earns back in each second
CREDIT = 0.1
EARNED = 0.005
#: seconds that other clients get between two large payloads of one client
PAUSE = 0.02

#: a payload of this many bytes of JSON or more also needs room in the budget of the whole loop
LARGE = 32 * 1024
#: bytes of memory for the large payloads of all clients of a loop that are decoded at the same time
LOOP_BYTES = 48 * 1024 * 1024
#: seconds after which a payload without room is decoded all the same, but only one such payload at a time
ONE_BY_ONE_AFTER = 5.0
#: about how many bytes of memory each list, object, quotation mark and value takes
WEIGHTS = ((b"[", 96), (b"{", 256), (b'"', 28), (b",", 32))


class Budget:
    """A limit of bytes that are in use at the same time, and of the time that they take from the loop.

    Calls of ``take`` wait in their order. A size beyond the whole limit gets through when nothing
    else is in use. While the loop decodes or encodes JSON of a client, it does nothing for others:
    the client pays for this time. A client that has spent more than its credit waits until it has
    earned that back.
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
        self._in_order = in_order  # if False, a small size may pass a larger one that does not fit yet
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._paid_at = 0.0  # when the client will have earned back all its time
        self._next_at = 0.0  # when its next payload may be handled, on credit
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
        self._let_through()

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
                now = _now()
                self._paid_at = max(self._paid_at, now) + beyond / EARNED
                self._next_at = max(now + PAUSE, self._paid_at - CREDIT / EARNED)

    def owed(self) -> float:
        """Return the seconds until the next payload of the client may be handled."""
        return max(0.0, self._next_at - _now())

    async def pause(self) -> None:
        """Let other clients run, if the last block took long."""
        if self._next_at > _now():
            await asyncio.sleep(PAUSE)

    def _let_through(self) -> None:
        now = _now()
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
        if self._timer is None and self._next_at > now:
            self._timer = asyncio.get_running_loop().call_at(self._next_at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._let_through()

    def _fits(self, size: int, now: float) -> bool:
        if self._next_at > now:
            return False
        return not self._taken or self._taken + size <= self._limit


def _now() -> float:
    return asyncio.get_running_loop().time()


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Budget, Budget]]
_of_loops = weakref.WeakKeyDictionary()


def weight(payload: bytes) -> int:
    """Return about how many bytes of memory the decoded `payload` takes; marks in a text count as well."""
    return len(payload) + sum(payload.count(mark) * each for mark, each in WEIGHTS)


@contextlib.asynccontextmanager
async def room(payload: Any) -> AsyncIterator[None]:
    """Wait until there is room to decode `payload`, a ``msgspec.Raw``, beside those of other clients."""
    if not isinstance(payload, msgspec.Raw) or len(memoryview(payload)) < LARGE:
        yield
        return
    loop = asyncio.get_running_loop()
    if loop not in _of_loops:
        _of_loops[loop] = Budget(LOOP_BYTES, in_order=False), Budget(1)
    budget, one_by_one = _of_loops[loop]
    size = weight(bytes(payload))
    try:
        async with asyncio.timeout(ONE_BY_ONE_AFTER):
            await budget.take(size)
    except TimeoutError:
        budget = one_by_one
        await budget.take(size)
    try:
        yield
    finally:
        budget.give_back(size)
