"""How much of a client's payloads is decoded at once."""

from __future__ import annotations

import asyncio

from phx_protocol.budget import Budget


async def waiting(budget: Budget, size: int) -> asyncio.Task[None]:
    task = asyncio.create_task(budget.take(size))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_what_fits_is_taken_at_once() -> None:
    budget = Budget(10)
    await budget.take(4)
    await budget.take(6)
    await waiting(budget, 1)


async def test_those_who_wait_are_served_in_their_order() -> None:
    budget = Budget(10)
    await budget.take(10)
    large, small = await waiting(budget, 8), await waiting(budget, 1)
    budget.give_back(4)
    await asyncio.sleep(0)
    assert not large.done() and not small.done()
    budget.give_back(6)
    await asyncio.gather(large, small)


async def test_what_is_larger_than_the_budget_goes_alone() -> None:
    budget = Budget(10)
    await budget.take(1)
    larger = await waiting(budget, 50)
    budget.give_back(1)
    await larger
    await waiting(budget, 1)


async def test_who_gives_up_takes_nothing() -> None:
    budget = Budget(10)
    await budget.take(10)
    first, second = await waiting(budget, 10), await waiting(budget, 10)
    budget.give_back(10)
    first.cancel()
    await second
