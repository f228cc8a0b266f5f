"""The places of a client: which joins get one, and in what order."""

from __future__ import annotations

import asyncio
import itertools
import sys

import pytest

from phx_protocol.socket.admission import AT_ONCE, Admission


async def waiting(admission: Admission) -> asyncio.Task[bool]:
    """A join that waits for its place."""
    task = asyncio.create_task(admission.enter())
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_joins_take_places_until_none_is_left() -> None:
    admission = Admission(2)
    assert await admission.enter() and await admission.enter()
    admission.decided(True)
    admission.decided(True)
    assert not await admission.enter()


async def test_a_join_waits_while_those_before_it_are_undecided() -> None:
    admission = Admission(1)
    assert await admission.enter()
    second, third = await waiting(admission), await waiting(admission)
    admission.decided(False)
    assert await second
    admission.decided(True)
    assert not await third


async def test_all_waiting_joins_are_refused_when_the_last_place_is_taken() -> None:
    admission = Admission(1)
    assert await admission.enter()
    later = [await waiting(admission) for _ in range(3)]
    admission.decided(True)
    assert await asyncio.gather(*later) == [False, False, False]


async def test_others_run_while_a_client_is_refused_many_joins() -> None:
    admission = Admission(1)
    assert await admission.enter()
    later = [await waiting(admission) for _ in range(100)]
    admission.decided(True)
    answered = [0]
    while answered[-1] < len(later):
        await asyncio.sleep(0)
        answered.append(sum(join.done() for join in later))
    steps = [now - before for before, now in itertools.pairwise(answered)]
    assert max(steps) <= AT_ONCE


async def test_a_join_does_not_overtake_those_that_are_about_to_be_answered() -> None:
    admission = Admission(1)
    assert await admission.enter()
    second = await waiting(admission)
    admission.decided(False)
    third = await waiting(admission)
    assert await second and not third.done()


async def test_a_place_that_is_left_goes_to_the_next_one() -> None:
    admission = Admission(2)
    assert await admission.enter()
    admission.decided(True)
    assert await admission.enter()
    third = await waiting(admission)
    admission.left()
    assert await third


async def test_a_rejoin_keeps_its_place() -> None:
    admission = Admission(1)
    assert await admission.enter()
    admission.decided(True)
    admission.rejoin()
    other = await waiting(admission)
    admission.decided(True)
    assert not await other


async def test_joins_that_wait_when_the_client_is_gone_get_no_place() -> None:
    admission = Admission(1)
    assert await admission.enter()
    second = await waiting(admission)
    admission.close()
    assert not await second
    admission.decided(False)
    assert (
        await admission.enter()
    )  # what it sent before is handled as far as nothing waits
    assert not await admission.enter()


def calls_of_joins(count: int) -> int:
    """Calls of functions with which so many joins are decided, one after the other, of which one
    in ten gets a place."""

    async def one_after_the_other() -> None:
        admission = Admission(count // 10)
        joins = [asyncio.create_task(admission.enter()) for _ in range(count)]
        for _ in range(count // 10):
            await asyncio.sleep(0)
            admission.decided(True)
        assert sum(await asyncio.gather(*joins)) == count // 10

    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    try:
        asyncio.run(one_after_the_other())
    finally:
        sys.setprofile(None)
    return next(calls)


def test_eight_times_as_many_joins_cost_not_more_than_eight_times() -> None:
    few, many = calls_of_joins(100), calls_of_joins(800)
    assert many < 9 * few  # it would be 64 if each decision woke all who wait


@pytest.mark.parametrize("has_its_place", [False, True])
async def test_a_cancelled_join_keeps_no_place(has_its_place: bool) -> None:
    admission = Admission(1)
    assert await admission.enter()
    second = await waiting(admission)
    third = await waiting(admission)
    if has_its_place:
        admission.decided(False)
        second.cancel()
    else:
        second.cancel()
        admission.decided(False)
    assert await third
    with pytest.raises(asyncio.CancelledError):
        await second
