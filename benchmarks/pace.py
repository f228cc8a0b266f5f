"""A clock that ticks more finely than asyncio's timers, which count in milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

CLOCK_MONOTONIC = 1


class Timer(ctypes.Structure):
    """The kernel's ``struct itimerspec``: the interval, and when it begins."""

    _fields_ = [
        (name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")
    ]


def timer(rate: float) -> int:
    """A descriptor of the kernel that becomes readable `rate` times a second."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    every = divmod(max(1, int(1e9 / rate)), 10**9)
    if fd < 0 or libc.timerfd_settime(fd, 0, ctypes.byref(Timer(*every, *every)), None):
        raise OSError(ctypes.get_errno(), "timerfd")
    return fd


async def evenly(rate: float, total: int, act: Callable[[int], None]) -> None:
    """Call `act` with 0, 1, ... `total` - 1, `rate` times a second, however long each takes.

    A tick that comes late is made up for at once.
    """
    loop = asyncio.get_running_loop()
    done, made = loop.create_future(), 0
    fd = timer(rate)

    def tick() -> None:
        nonlocal made
        begun = made
        made = min(made + int.from_bytes(os.read(fd, 8), "little"), total)
        if made == total and not done.done():
            done.set_result(None)
        for i in range(begun, made):
            act(i)

    loop.add_reader(fd, tick)
    try:
        await done
    finally:
        loop.remove_reader(fd)
        os.close(fd)
