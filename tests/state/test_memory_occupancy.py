"""What the occupancy in memory does beyond the model: it forgets."""

from __future__ import annotations

import pytest

from phx_protocol.state import memory_occupancy
from phx_protocol.state.memory_occupancy import MemoryOccupancy
from phx_protocol.state.occupancy import KEPT, SEEN, USER, Mark


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def come_and_go(occupancy: MemoryOccupancy, name: str) -> None:
    for is_here in (True, False):
        await occupancy.mark("a", [Mark(name, is_here)], 0.0)


async def test_who_left_long_ago_is_forgotten() -> None:
    clock = Clock()
    occupancy = MemoryOccupancy(USER, clock)
    await come_and_go(occupancy, "ada")
    clock.now += SEEN + 1
    await come_and_go(occupancy, "bob")
    ada, bob = await occupancy.look(["ada", "bob"], 0.0)
    assert (ada.at, bob.at) == (None, clock.now)


async def test_only_so_many_who_left_are_remembered_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_occupancy, "MOST_SEEN", 2)
    clock = Clock()
    occupancy = MemoryOccupancy(USER, clock)
    for name in ("ada", "bob", "ada", "eve"):
        clock.now += 1
        await come_and_go(occupancy, name)
    seen = await occupancy.look(["ada", "bob", "eve"], 0.0)
    assert [one.at is not None for one in seen] == [True, False, True]


async def test_it_is_due_after_its_delay() -> None:
    clock = Clock()
    occupancy = MemoryOccupancy(USER, clock)
    assert await occupancy.mark("a", [Mark("ada", True)], 5.0) == [0.0]
    await occupancy.told(await occupancy.claim(["ada"], 10.0))
    assert await occupancy.mark("a", [Mark("ada", False)], 5.0) == [5.0]
    clock.now += 4
    assert await occupancy.claim(["ada"], 10.0) == []
    clock.now += 1
    (change,) = await occupancy.claim(["ada"], 10.0)
    assert (change.is_here, change.at) == (False, clock.now - 5)
    clock.now += 9
    assert await occupancy.claim(["ada"], 10.0) == []
    clock.now += 1
    assert await occupancy.claim(["ada"], 10.0) == [change]


async def test_what_nobody_tells_for_a_day_is_not_told() -> None:
    clock = Clock()
    occupancy = MemoryOccupancy(USER, clock)
    await occupancy.mark("a", [Mark("ada", True)], 0.0)
    clock.now += KEPT
    assert await occupancy.sweep(["ada"], 0, 1.0) == ([], [])
    assert await occupancy.claim(["ada"], 1.0) == []
    assert await occupancy.mark("a", [Mark("ada", False)], 0.0) == [0.0]
