"""The time that a connection may be silent."""

from __future__ import annotations

import asyncio

import pytest

from phx_protocol import Reason
from phx_protocol.transports.connection_timers import ConnectionTimers


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
