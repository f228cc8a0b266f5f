"""Waiting for a future for a while leaves the future alone."""

from __future__ import annotations

import asyncio

import pytest

from phx_protocol.concurrency.tasks import within


async def test_a_future_that_is_done_in_time_ends_the_wait() -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(within(60, future))
    await asyncio.sleep(0)
    future.set_result(1)
    assert await waiting and await within(60, future)


async def test_one_that_is_late_ends_it_too_and_goes_on() -> None:
    future = asyncio.get_running_loop().create_future()
    assert not await within(0, future)
    assert not future.done()


async def test_one_that_is_cancelled_or_fails_is_done() -> None:
    loop = asyncio.get_running_loop()
    cancelled, failed = loop.create_future(), loop.create_future()
    waits = [asyncio.create_task(within(60, f)) for f in (cancelled, failed)]
    await asyncio.sleep(0)
    cancelled.cancel()
    failed.set_exception(ValueError())
    assert await asyncio.gather(*waits) == [True, True]
    assert isinstance(failed.exception(), ValueError)


async def test_who_is_cancelled_while_waiting_takes_the_future_from_nobody() -> None:
    future = asyncio.get_running_loop().create_future()
    waits = [asyncio.create_task(within(60, future)) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    future.set_result(None)
    assert await waits[1]
