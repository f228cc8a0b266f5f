"""The time that a connection may be silent."""

from __future__ import annotations

import asyncio

import pytest

from phx_protocol import Reason
from phx_protocol.transports import connection_timers
from phx_protocol.transports.connection_timers import ConnectionTimers, GoneWatch


@pytest.mark.parametrize("timeout, with_grace", [(60, 65), (10, 11), (600, 605)])
async def test_a_timer_that_is_a_little_late_ends_nothing(
    timeout: float, with_grace: float
) -> None:
    """Browsers let those of a hidden tab run once a minute, and phoenix.js speaks by one."""
    closed: list[tuple[int, Reason]] = []
    timers = ConnectionTimers(timeout, None, lambda *how: closed.append(how))
    begun = asyncio.get_running_loop().time()
    assert timers._timer.when() - begun == pytest.approx(with_grace, abs=0.5)
    timers.seen_at -= with_grace - 0.5
    timers._check()
    assert not closed
    timers._timer.cancel()
    timers.seen_at -= 1
    timers._check()
    assert closed == [(1002, Reason.CLOSED)]
    timers.stop()


@pytest.mark.parametrize("looks", [1, 3])
async def test_who_waits_for_a_client_stops_when_it_has_gone(
    looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_timers, "LOOK_EVERY", 0.001)
    seen = iter([False] * (looks - 1) + [True])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as patience:
            watch = GoneWatch(lambda: next(seen), patience)
            await asyncio.sleep(60)
    watch.stop()


async def test_nobody_looks_any_more_when_the_watch_is_over() -> None:
    looks: list[bool] = []
    async with asyncio.timeout(None) as patience:
        watch = GoneWatch(lambda: bool(looks.append(True)), patience)
        watch.stop()
    assert looks == [True] and watch._timer.cancelled()
