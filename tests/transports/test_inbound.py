"""When a client has to wait for the others, and when no longer."""

from __future__ import annotations

import asyncio

from phx_protocol.transports.inbound import FLOOD, FRAMES_IN_A_TURN, Turns


async def burst(turns: Turns, frames: int = FLOOD) -> int:
    """How often the others had a turn while so many frames came at once."""
    now = asyncio.get_running_loop().time()
    return sum(turns.is_over(now) for _ in range(frames))


async def test_a_flood_is_stepped_until_it_is_over_and_again_when_it_is_repeated() -> (
    None
):
    seen: asyncio.Queue[bool] = asyncio.Queue()
    turns = Turns(asyncio.get_running_loop(), seen.put_nowait)
    for _ in range(2):
        assert await burst(turns) == FLOOD / FRAMES_IN_A_TURN
        assert await seen.get() is True
        # while it goes on nothing is given back
        for _ in range(5):
            assert await burst(turns) == FLOOD
            await asyncio.sleep(0)
        assert await seen.get() is False and seen.empty()


async def test_a_flood_that_goes_on_more_slowly_is_one_still() -> None:
    seen: list[bool] = []
    turns = Turns(asyncio.get_running_loop(), seen.append)
    await burst(turns)
    for _ in range(60):
        await burst(turns, FLOOD // 8)
        await asyncio.sleep(0.01)
    assert seen == [True]
