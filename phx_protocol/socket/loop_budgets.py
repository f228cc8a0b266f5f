"""LoopBudgets: what the large payloads of all clients of one event loop share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import msgspec

from ..concurrency.garbage import no_collection
from ..concurrency.tasks import let_others_run
from .budget import Budget

#: bytes from which a frame or payload is large: it is handled one at a time in the whole loop
LARGE = 32 * 1024
#: bytes of memory for the large payloads of all clients of a loop that are decoded at the same time
LOOP_BYTES = 48 * 1024 * 1024
#: seconds after which a payload without room is decoded all the same, but only one such payload at a time
ONE_BY_ONE_AFTER = 5.0
#: seconds that the large payloads of all clients together earn in each second that all else has
LOOP_EARNED = 0.5
#: seconds of the loop that the large payloads of all new clients may take at once
NEW_CREDIT = 0.1
#: bytes of frames of new clients that wait for their turn
NEW_BYTES = 8 * 1024 * 1024
#: lists and objects of a payload that are many: the garbage collector needs time for them
MANY = 10_000
#: about how many bytes of memory each list, object, quotation mark and value takes
WEIGHTS = ((b"[", 96), (b"{", 256), (b'"', 28), (b",", 32))


class LoopBudgets:
    """The budgets of all clients of a loop together."""

    def __init__(self) -> None:
        #: memory for what is decoded
        self.memory = Budget(LOOP_BYTES, in_order=False)
        #: what finds no room in it
        self.one_by_one = Budget(1)
        #: the turn: one large payload at a time, and then all else has the loop for twice as long
        self.turns = Budget(1, credit=0, earned=LOOP_EARNED, pause=0)
        #: the clients that are too new to have earned anything live on one credit: else whoever
        #: has spent its own would connect again for another one
        self.new = Budget(1, credit=NEW_CREDIT, pause=0)
        self.new_bytes = 0  # bytes of frames of new clients that wait for their turn


#: who pays for what a large broadcast, which is being sent, costs its receivers in this process
PAYER: ContextVar[Budget | None] = ContextVar("PAYER", default=None)

_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopBudgets]
_of_loops = weakref.WeakKeyDictionary()


def loop_budgets() -> LoopBudgets:
    """Return the budgets of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loops:
        _of_loops[loop] = LoopBudgets()
    return _of_loops[loop]


def weight(payload: bytes) -> int:
    """Return about how many bytes of memory the decoded `payload` takes; marks in a text count as well."""
    return len(payload) + sum(payload.count(mark) * each for mark, each in WEIGHTS)


@contextlib.contextmanager
def paid_by(budget: Budget | None) -> Iterator[None]:
    """Let `budget` pay for the receivers of what is broadcast in the block."""
    token = PAYER.set(budget)
    try:
        yield
    finally:
        PAYER.reset(token)


def size_of(payload: Any) -> int:
    """Return how many bytes of JSON `payload` has; 0 if it is not a ``msgspec.Raw``, with nothing to decode."""
    return len(memoryview(payload)) if isinstance(payload, msgspec.Raw) else 0


@contextlib.asynccontextmanager
async def turn(size: int, payer: Budget | None = None) -> AsyncIterator[None]:
    """Wait until no other large payload is handled in the loop, to handle one of `size` bytes.

    The block must not wait for anything. A payload that is not large need not wait. What the block has
    decoded the garbage collector examines afterwards, in a step of its own for which `payer` pays.
    """
    if size < LARGE:
        yield
        return
    turns = loop_budgets().turns
    async with turns.taken(1):
        with no_collection() as is_on:
            before = gc.get_count()[0]
            yield
            if is_on and gc.get_count()[0] - before > MANY:
                await let_others_run()
                with (payer or turns).charged():
                    gc.collect(0)
                await let_others_run()


@contextlib.asynccontextmanager
async def room(payload: Any) -> AsyncIterator[None]:
    """Wait until there is room to decode `payload`, a ``msgspec.Raw``, beside those of other clients."""
    if size_of(payload) < LARGE:
        yield
        return
    budgets = loop_budgets()
    budget, size = budgets.memory, weight(bytes(payload))
    try:
        async with asyncio.timeout(ONE_BY_ONE_AFTER):
            await budget.take(size)
    except TimeoutError:
        budget = budgets.one_by_one
        await budget.take(size)
    try:
        yield
    finally:
        budget.give_back(size)
