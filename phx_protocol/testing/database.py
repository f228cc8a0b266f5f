"""The test's own database connection, for what an async test has done in a thread."""

from __future__ import annotations

from collections.abc import Callable

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def share() -> Callable[[], None]:
    """Have Django's thread for sync code use the connections of this thread; returns the undoing.

    Only those in a transaction, which is the test's: in another connection nobody would see what
    the test has made, and what is made there would stay. Where that thread is this one, as in a
    ``TestCase`` with ``async def test_...``, there is nothing to do.
    """
    if getattr(AsyncToSync.executors, "current", None) is not None:
        return _nothing
    shared = {c.alias: c for c in connections.all() if c.in_atomic_block}
    if not shared:
        return _nothing
    for connection in shared.values():
        connection.inc_thread_sharing()
    before: dict[str, BaseDatabaseWrapper] = _in_thread(lambda: _exchange(shared))

    def undo() -> None:
        _in_thread(lambda: _exchange(before))
        for connection in shared.values():
            connection.dec_thread_sharing()

    return undo


def _exchange(wanted: dict[str, BaseDatabaseWrapper]) -> dict[str, BaseDatabaseWrapper]:
    """Use the `wanted` connections in this thread; returns those that were used before."""
    before = {alias: connections[alias] for alias in wanted}
    for alias, connection in wanted.items():
        connections[alias] = connection
    return before


def _in_thread(
    call: Callable[[], dict[str, BaseDatabaseWrapper]],
) -> dict[str, BaseDatabaseWrapper]:
    return SyncToAsync.single_thread_executor.submit(call).result()


def _nothing() -> None: ...
