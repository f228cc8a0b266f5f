"""The event loop of this process that runs in a thread of its own, for code that has no loop."""

from __future__ import annotations

import asyncio
import os
import threading

from . import green

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def own_loop() -> asyncio.AbstractEventLoop:
    """Return the loop in a thread of its own. It is made once: one per call costs 4 ms and a connection."""
    global _loop
    with _lock:
        if _loop is None:
            start = green.real_start_new_thread()
            _loop = _loop_in_thread() if start is None else green.new_loop(start)
        return _loop


def _loop_in_thread() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(
        target=loop.run_forever, name="phx_protocol.publisher", daemon=True
    ).start()
    return loop


def _after_fork() -> None:
    # the child has no such thread: it makes another one when it needs it
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
