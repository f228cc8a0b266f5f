"""Fixtures for pytest, available as soon as the package is installed.

``phx_connect`` is ``phx_protocol.testing.connect`` and ``phx_connect_sync`` is ``connect_sync``;
connections that a test opens with them are closed when it ends. Then the Socket classes that
only this test has used, with any client, are forgotten as well: the next test may have other
channels for its topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if (
    TYPE_CHECKING
):  # it needs Django's settings, which are not there yet when this is loaded
    from .testing import SyncTestSocket


@pytest.fixture(autouse=True)
def _phx_database() -> Iterator[None]:
    # give the database connection back to the test; not later, in a hook behind all fixtures:
    # behind the last test, one of the session drops the database
    yield
    database = sys.modules.get("phx_protocol.testing.database")
    if database is not None:
        database.unshare()


def _mounted() -> dict[Any, None]:
    """Return the Socket classes that this process serves; none before the package is imported."""
    serving = sys.modules.get("phx_protocol.pubsub.serving")
    return {} if serving is None else serving.mounted


@pytest.fixture(autouse=True)
def _phx_mounted() -> Iterator[None]:
    # keep those that modules, and fixtures of a class, a module or the session, mounted before
    before = dict(_mounted())
    yield
    for socket_class in _mounted().keys() - before.keys():
        del _mounted()[socket_class]


@pytest.fixture
def phx_connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Connect in an async test: ``await phx_connect(UserSocket, params, user=user)``.

    It returns a TestSocket. From here on the async ORM uses the database connection of the test.
    """
    from .testing import connect
    from .testing.database import share

    if "db" in request.fixturenames:
        request.getfixturevalue("db")  # open its transaction first: that is shared
    share()
    opened = []

    async def connect_and_keep(*args: Any, **kwargs: Any) -> Any:
        socket = await connect(*args, **kwargs)
        opened.append((asyncio.get_running_loop(), socket))
        return socket

    yield connect_and_keep
    for loop, socket in opened:
        if not loop.is_closed():
            with contextlib.suppress(Exception):
                loop.run_until_complete(socket.close())


@pytest.fixture
def phx_connect_sync() -> Iterator[Callable[..., SyncTestSocket]]:
    """Connect in a sync test: ``phx_connect_sync(UserSocket, params, user=user)``.

    It returns a SyncTestSocket.
    """
    from .testing import connect_sync

    with contextlib.ExitStack() as stack:

        def connect_and_keep(*args: Any, **kwargs: Any) -> SyncTestSocket:
            return stack.enter_context(connect_sync(*args, **kwargs))

        yield connect_and_keep
