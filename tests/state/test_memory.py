"""The state in memory: what it holds, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from phx_protocol.state.memory import MemoryState
from tests.support.state import item


async def test_memory_does_not_hold_payloads_for_longer_than_their_ttl() -> None:
    now = 0.0
    state = MemoryState(clock=lambda: now)
    (position,) = await state.append([item("1", ttl=10)])
    now = 11.0
    await state.reap()
    assert not state._topics["topic"].kept
    assert await state.heads({"topic": 10}) == [position]


async def test_memory_keeps_so_many_bytes_of_all_topics_and_the_largest_give_way(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.state.memory.MOST_BYTES", 1000)
    state = MemoryState()
    await state.append([item("a", "small")])
    for n in range(40):
        await state.append([item(str(n), f"large{n % 4}", payload=100)])
    topics = state._topics.values()
    assert sum(topic.bytes for topic in topics) == state._total.bytes <= 1000
    assert (await state.kept("small", 300))[1] == 1
    await state.reset("small")
    await state.lost()
    assert state._total.bytes == 0


async def test_a_rate_allows_so_many_at_once_and_then_one_after_the_other() -> None:
    now = 0.0
    state = MemoryState(clock=lambda: now)
    assert [await state.rate("a", 2, 10) for _ in range(4)] == [0, 0, 5, 5]
    assert await state.rate("b", 2, 10) == 0
    now = 4.0
    assert await state.rate("a", 2, 10) == pytest.approx(1)
    now = 5.0
    assert [await state.rate("a", 2, 10) for _ in range(2)] == [0, 5]
    now = 100.0
    assert [await state.rate("a", 2, 10) for _ in range(3)] == [0, 0, 5]


async def test_memory_does_not_remember_rates_that_nobody_uses(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.state.memory.MOST_RATES", 10)
    now = 0.0
    state = MemoryState(clock=lambda: now)
    for n in range(100):
        now += 1.0
        assert await state.rate(str(n), 1, 5) == 0
    assert len(state._rates) <= 10
