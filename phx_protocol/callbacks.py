"""Calling what users write, be it ``async def`` or a plain ``def`` that runs in a thread."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async
from channels.db import aclose_old_connections, database_sync_to_async
from django.conf import settings

from .conf import options

AsyncCallable = Callable[..., Awaitable[Any]]

# Tests switch this on: callbacks then run where the test's own database connection is, and
# nobody closes it but the test.
thread_sensitive = False

# How often connections that the database has dropped are looked for, in seconds.
STALE_AFTER = 1.0
_looked_at = time.monotonic()
_looking: asyncio.Task[None] | None = None


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="phx_protocol")


def as_async(function: Callable[..., Any]) -> AsyncCallable:
    """`function` itself when it is ``async def``, else one that runs it in a thread.

    The threads are our own (setting SYNC_THREADS), not Django's one thread for sync code:
    a slow callback would hold up every view there.
    """
    if inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def in_thread(*args: Any) -> Any:
        if thread_sensitive:
            return await sync_to_async(function, thread_sensitive=True)(*args)
        pool = _pool(options().sync_threads)
        call = database_sync_to_async(function, thread_sensitive=False, executor=pool)
        return await call(*args)

    return in_thread


def stale_connections_are_due() -> bool:
    """Whether a second has passed since dropped database connections were last looked for.

    Channels looks before every message, which is a hop to a thread and most of what a
    hand-written consumer costs.
    """
    global _looked_at
    if _looking is not None:
        return True
    now = time.monotonic()
    if now - _looked_at < STALE_AFTER or thread_sensitive or not settings.DATABASES:
        return False
    _looked_at = now
    return True


async def close_stale_connections() -> None:
    """Close them. Who comes while that runs waits for the same, so that nobody overtakes."""
    global _looking
    if not settings.DATABASES or thread_sensitive:
        return
    loop = asyncio.get_running_loop()
    if _looking is None or _looking.get_loop() is not loop:
        _looking = loop.create_task(_look())
    await asyncio.shield(_looking)


async def _look() -> None:
    global _looking
    try:
        await aclose_old_connections()
    finally:
        _looking = None
