"""Calling what users write, be it ``async def`` or a plain ``def`` that runs in a thread."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from channels.db import database_sync_to_async
from django.db import close_old_connections

from .conf import options
from .logs import get_logger

logger = get_logger("phx_protocol.callbacks")

AsyncCallable = Callable[..., Awaitable[Any]]

# Tests switch this on: callbacks then run where the test's own database connection is, and
# nobody closes it but the test.
thread_sensitive = False

# How often connections that the database has dropped are looked for, in seconds.
STALE_AFTER = 1.0
_looked_at = time.monotonic()


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


def look_for_stale_connections() -> None:
    """Close connections that the database has dropped, if the last look is a second ago.

    Channels looks before every message and waits for it, which is a hop to a thread and most of
    what a hand-written consumer costs.
    """
    global _looked_at
    now = time.monotonic()
    if now - _looked_at >= STALE_AFTER:
        _looked_at = now
        close_stale_connections()


def close_stale_connections() -> None:
    """Close them in the thread in which Django's async ORM works.

    Nobody waits for it: that thread does it before whatever a callback then asks of it.
    (Callbacks that run in a thread look there themselves, through ``database_sync_to_async``.)
    """
    if not thread_sensitive:
        SyncToAsync.single_thread_executor.submit(_close)


def _close() -> None:
    try:
        close_old_connections()
    except Exception:
        logger.exception("stale database connections cannot be closed")
