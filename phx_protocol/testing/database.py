"""The test's own database connection, for what an async test has done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

#: seconds that Django's thread may take for what it does
TIMEOUT = 10.0

Connections = dict[str, BaseDatabaseWrapper]

# by alias: what the test has lent, and what was used in its place; None: nothing is lent
_lent: tuple[Connections, Connections] | None = None


def share() -> None:
    """Have Django's thread for sync code use the connections of this thread, until ``unshare``.

    Only those in a transaction, which is the test's: in another connection nobody would see what
    the test has made, and what is made there would stay. Where that thread is this one, as in a
    ``TestCase`` with ``async def test_...`` and with ``connect_sync``, there is nothing to do.
    """
    global _lent
    if _lent is None and not _is_served_here():
        lent = {c.alias: c for c in _connections() if c.in_atomic_block}
        for connection in lent.values():
            connection.inc_thread_sharing()
        _lent = lent, _in_thread(lambda: _exchange(lent))


def unshare() -> None:
    """The end of ``share``, when the test has ended. That thread has no connection open then.

    One that stayed open would keep PostgreSQL from dropping the test's database.
    """
    global _lent
    if _lent is not None:
        (lent, before), _lent = _lent, None
        _in_thread(lambda: _exchange(before))
        _in_thread(connections.close_all)
        for connection in lent.values():
            connection.dec_thread_sharing()


def keep() -> None:
    """Have ``close_old_connections`` spare a connection in a transaction: the test's is in one.

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
    """Whether sync code of the running loop is done by a thread that waits for it."""
    loop = asyncio._get_running_loop()
    return (
        getattr(AsyncToSync.executors, "current", None) is not None
        or loop in AsyncToSync.loop_thread_executors
    )


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """Those of the sync code of this thread; a coroutine has others."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return connections.all(initialized_only=True)
    finally:
        asyncio._set_running_loop(loop)


def _exchange(wanted: Connections) -> Connections:
    """Use the `wanted` connections in this thread; returns those that were used before."""
    before = {alias: connections[alias] for alias in wanted}
    for alias, connection in wanted.items():
        connections[alias] = connection
    return before


def _in_thread(call: Callable[[], Any]) -> Any:
    """Raises TimeoutError when a callback does not let go of that thread."""
    return SyncToAsync.single_thread_executor.submit(call).result(TIMEOUT)
