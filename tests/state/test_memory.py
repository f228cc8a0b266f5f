"""The state in memory: what it holds, and for how long."""

from __future__ import annotations

from typing import Any

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
