"""The budget: how many payloads are decoded at the same time."""

from __future__ import annotations

import asyncio
import time

import pytest

from phx_protocol.socket import budget as module
from phx_protocol.socket.budget import Budget


async def waiting(budget: Budget, size: int) -> asyncio.Task[None]:
    task = asyncio.create_task(budget.take(size))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_size_that_fits_is_taken_at_once() -> None:
    budget = Budget(10)
    await budget.take(4)
    await budget.take(6)
    await waiting(budget, 1)


async def test_calls_that_wait_are_served_in_their_order() -> None:
    budget = Budget(10)
    await budget.take(10)
    large, small = await waiting(budget, 8), await waiting(budget, 1)
    budget.give_back(4)
    await asyncio.sleep(0)
    assert not large.done() and not small.done()
    budget.give_back(6)
    await asyncio.gather(large, small)


async def test_a_size_larger_than_the_budget_goes_alone() -> None:
    budget = Budget(10)
    await budget.take(1)
    larger = await waiting(budget, 50)
    budget.give_back(1)
    await larger
    await waiting(budget, 1)


async def test_a_cancelled_call_takes_nothing() -> None:
    budget = Budget(10)
    await budget.take(10)
    first, second = await waiting(budget, 10), await waiting(budget, 10)
    budget.give_back(10)
    first.cancel()
    await second


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def take(budget: Budget, seconds: float) -> None:
    with budget.charged():
        work(seconds + module.FREE)


async def test_a_client_with_credit_waits_only_a_short_pause() -> None:
    budget = Budget(10)
    take(budget, module.CREDIT / 2)
    assert 0 < budget.owed() < 2 * module.PAUSE
    await (await waiting(budget, 1))
    assert budget.owed() == 0


async def test_a_wait_that_ends_while_it_begins_is_over() -> None:
    for fraction in range(500):
        budget = Budget(10)
        budget._next_at = module.loop_time() + fraction * 1e-8
        async with asyncio.timeout(5):
            await budget.take(1)


async def test_a_client_without_credit_waits_until_it_is_earned_back() -> None:
    budget = Budget(10)
    take(budget, module.CREDIT)
    assert budget.owed() < 2 * module.PAUSE
    take(budget, 0.001)
    owed = budget.owed()
    assert module.PAUSE < owed
    assert owed == pytest.approx(0.001 / module.EARNED, rel=0.5)
    await (await waiting(budget, 1))
    assert budget.owed() == 0
    take(budget, 0.001)  # it has earned no more than that
    assert budget.owed() > module.PAUSE


async def test_a_megabyte_of_text_a_second_is_no_reason_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget, now = Budget(10), 0.0
    monkeypatch.setattr(module, "loop_time", lambda: now)
    for second in range(60):
        now = second
        take(budget, 0.0005)
        take(budget, 0.0005)
        assert budget.owed() < 2 * module.PAUSE


async def test_credit_that_is_not_used_does_not_add_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget, now = Budget(10), 0.0
    monkeypatch.setattr(module, "loop_time", lambda: now)
    for now in (0, 1_000_000):
        take(budget, module.CREDIT)
        take(budget, 0.001)
        assert budget.owed() > module.PAUSE


async def test_a_delay_by_chance_costs_no_more_than_the_credit() -> None:
    """A full garbage collection, say, which is everybody's."""
    budget = Budget(10)
    take(budget, 3 * module.CREDIT)
    assert budget.owed() < 2 * module.PAUSE


async def test_a_block_that_takes_little_time_is_free() -> None:
    budget = Budget(10)
    for _ in range(100):
        with budget.charged():
            pass
    assert budget.owed() == 0
    await budget.take(1)


async def test_waiting_calls_pay_one_after_the_other() -> None:
    budget = Budget(10)
    await budget.take(10)

    async def pays() -> None:
        await budget.take(1)
        take(budget, 3 * module.FREE)

    first, second = asyncio.create_task(pays()), asyncio.create_task(pays())
    await asyncio.sleep(0)
    budget.give_back(10)
    await first
    assert not second.done()
    await second
