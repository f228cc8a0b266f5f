"""The large frames of one client beside those of others, of which some are new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from phx_protocol.socket.budget import CREDIT, EARNED, FREE, PAUSE, loop_time
from phx_protocol.socket.client_budget import NEW, ClientBudget
from phx_protocol.socket.loop_budgets import (
    LARGE,
    NEW_BYTES,
    NEW_CREDIT,
    loop_budgets,
    turn,
)
from tests.socket.test_budget import work


def new() -> ClientBudget:
    return ClientBudget(1, loop_time())


def old() -> ClientBudget:
    return ClientBudget(1, loop_time() - 2 * NEW)


@asynccontextmanager
async def large_turn(client: ClientBudget, size: int = LARGE) -> AsyncIterator[None]:
    async with client.turn_as_new(size), turn(size):
        yield


async def waiting(client: ClientBudget, size: int = LARGE) -> asyncio.Task[None]:
    async def turn() -> None:
        async with large_turn(client, size):
            pass

    task = asyncio.create_task(turn())
    await asyncio.sleep(0)
    return task


async def spend_what_new_clients_have() -> None:
    loop_budgets().new.charge(NEW_CREDIT + 0.001)


async def test_one_large_frame_is_handled_at_a_time_and_then_all_else_has_the_loop_twice_as_long() -> (
    None
):
    first, second = old(), old()
    async with large_turn(first):
        other = await waiting(second)
        assert not other.done()
        with first.charged():
            work(FREE + 0.01)
    assert loop_budgets().turns.owed() == pytest.approx(0.02, rel=0.5)
    assert not other.done()
    await other


async def test_a_small_frame_waits_for_nobody() -> None:
    await spend_what_new_clients_have()
    async with large_turn(old()):
        assert (await waiting(new(), LARGE - 1)).done()


async def test_a_new_client_has_a_credit_that_it_shares_with_all_new_ones() -> None:
    for _ in range(3):
        assert (await waiting(new())).done()
    await spend_what_new_clients_have()
    first, second = await waiting(new()), await waiting(new())
    assert not first.done() and not second.done()
    assert (await waiting(old())).done()
    await asyncio.gather(first, second)


async def test_what_a_new_client_spends_is_spent_for_the_next_one() -> None:
    with new().charged():
        work(FREE + 0.01)
    owed = loop_budgets().new._paid_at
    with old().charged():
        work(FREE + 0.01)
    assert loop_budgets().new._paid_at == owed
    assert owed > loop_time()


async def test_a_client_that_grows_old_while_it_waits_waits_no_longer() -> None:
    loop_budgets().new.charge(1000)
    client = ClientBudget(1, loop_time() - NEW + 0.05)
    async with asyncio.timeout(5):
        await (await waiting(client))


async def test_only_so_many_bytes_of_new_clients_may_wait() -> None:
    loop_budgets().new.charge(1000)
    assert new().may_wait(10 * NEW_BYTES)  # if it is the only one
    task = await waiting(new(), NEW_BYTES - LARGE)
    assert new().may_wait(LARGE)
    assert not new().may_wait(LARGE + 1)
    assert new().may_wait(LARGE - 1)  # which need not wait
    assert old().may_wait(NEW_BYTES)
    task.cancel()
    await asyncio.wait({task})
    assert new().may_wait(NEW_BYTES)


async def test_a_client_has_earned_nothing_when_it_is_new_no_more_but_what_its_age_gives() -> (
    None
):
    client = ClientBudget(1, loop_time() - NEW + 0.4)
    with client.charged():
        work(FREE + NEW * EARNED + 0.01)  # on the credit of all new ones
    assert client.owed() < 2 * PAUSE
    await asyncio.sleep(0.4)
    assert client.owed() == pytest.approx(0.01 / EARNED, rel=0.5)


async def test_an_old_client_has_the_credit_that_it_has_earned() -> None:
    client = ClientBudget(1, loop_time() - CREDIT / EARNED)
    with client.charged():
        work(FREE + CREDIT / 2)
    assert client.owed() < 2 * PAUSE
