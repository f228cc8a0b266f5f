"""The histories of a state in memory: tests/state/test_base.py and test_model.py try them as those in Redis."""

from __future__ import annotations

from typing import Any

import pytest

from phx_protocol.state import memory_histories
from phx_protocol.state.memory import MemoryState
from tests.support.state import item


async def test_the_times_of_what_is_kept_go_on_when_the_wall_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, times = MemoryState(), iter([50.0, 40.0, 60.0])

    class Clock:
        @staticmethod
        def time() -> Any:
            return next(times)

    monkeypatch.setattr(memory_histories, "time", Clock)
    for i in range(3):
        await state.append([item(f"{i}")])
    _, kept = await state.since("topic", 0, 60)
    assert [one.at for one in kept] == [50.0, 50.0, 60.0]
