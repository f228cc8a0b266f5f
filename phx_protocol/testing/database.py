"""The database connection of an async test, shared with the thread that runs its sync code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

#: seconds that Django's thread for sync code may take for one call
TIMEOUT = 10.0

Connections = dict[str, BaseDatabaseWrapper]

# the connections that the test has lent, and those that they replace, by alias; None: none is lent
_lent: tuple[Connections, Connections] | None = None


def share() -> None:
    """Let Django's thread for sync code use the connections of this thread, until ``unshare``.

    This lends only connections in a transaction, which is the test's: on another connection,
    sync code would not see the rows of the test, and its own rows would stay. If that thread is
    this one, as in a ``TestCase`` with ``async def test_...`` and with ``connect_sync``, there
    is nothing to do.
    """
    global _lent
    if _lent is None and not _is_served_here():
        lent = {c.alias: c for c in _connections() if c.in_atomic_block}
        for connection in lent.values():
            connection.inc_thread_sharing()
        _lent = lent, _in_thread(lambda: _exchange(lent))


def unshare() -> None:
    """Undo ``share`` when the test has ended, and close all other connections of that thread.

    PostgreSQL cannot drop the test's database while a connection is open.
    """
    global _lent
    if _lent is not None:
        (lent, before), _lent = _lent, None
        _in_thread(lambda: _exchange(before))
        _in_thread(connections.close_all)
        for connection in lent.values():
            connection.dec_thread_sharing()


def keep_test_connections() -> None:
    """Keep ``close_old_connections`` from closing a connection in a transaction, as the test's is.

    Channels' ``database_sync_to_async`` closes old connections around every call, and in a
    transaction each one counts as old.
    """
    close = _close_outside_transactions
    BaseDatabaseWrapper.close_if_unusable_or_obsolete = close  # type: ignore[assignment, method-assign]


_close = BaseDatabaseWrapper.close_if_unusable_or_obsolete


def _close_outside_transactions(connection: BaseDatabaseWrapper) -> None:
    if not connection.in_atomic_block:
        _close(connection)


def _is_served_here() -> bool:
    """Return whether a thread that waits for the running loop runs the loop's sync code."""
    loop = asyncio._get_running_loop()
    return (
        getattr(AsyncToSync.executors, "current", None) is not None
        or loop in AsyncToSync.loop_thread_executors
    )


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """Return the connections of this thread's sync code; a coroutine has other ones."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return connections.all(initialized_only=True)
    finally:
        asyncio._set_running_loop(loop)


def _exchange(wanted: Connections) -> Connections:
    """Use the `wanted` connections in this thread; return those that it used before."""
    before = {alias: connections[alias] for alias in wanted}
    for alias, connection in wanted.items():
        connections[alias] = connection
    return before


def _in_thread(call: Callable[[], Any]) -> Any:
    """Run `call` in Django's thread. Raise TimeoutError if a callback blocks that thread."""
    return SyncToAsync.single_thread_executor.submit(call).result(TIMEOUT)
