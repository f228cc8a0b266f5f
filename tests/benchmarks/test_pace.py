"""The clock of an open loop."""

from __future__ import annotations

import asyncio
import time

from benchmarks.pace import evenly


async def test_each_turn_comes_once_and_in_order() -> None:
    turns: list[int] = []
    await evenly(5000, 200, turns.append)
    assert turns == list(range(200))


async def test_turns_that_come_late_are_made_up_for() -> None:
    turns: list[int] = []

    def act(i: int) -> None:
        turns.append(i)
        if i == 0:
            time.sleep(0.02)  # as a generator that got no CPU

    await asyncio.wait_for(evenly(1000, 50, act), 60)
    assert turns == list(range(50))
