"""Fixtures for pytest, there as soon as the package is installed.

``phx_connect`` is ``phx_protocol.testing.connect`` and ``phx_connect_sync`` is ``connect_sync``;
what a test has opened with them is closed when it ends. The Socket classes that a test alone has
used, with whatever client, are forgotten then: the next one may have other channels on its topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # it needs Django's settings, which this is loaded before
    from .testing import SyncTestSocket


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    # the test has its database connection back
    try:
        return (yield)
    finally:
        database = sys.modules.get("phx_protocol.testing.database")
        if database is not None:
            database.unshare()


def _mounted() -> dict[Any, None]:
    """The Socket classes that this process serves; none before somebody has imported them."""
    serving = sys.modules.get("phx_protocol.pubsub.serving")
    return {} if serving is None else serving.mounted


@pytest.fixture(autouse=True)
def _phx_mounted() -> Iterator[None]:
    # modules, and fixtures of a class, a module or the session, have mounted theirs before this
    before = dict(_mounted())
    yield
    for socket_class in _mounted().keys() - before.keys():
        del _mounted()[socket_class]


@pytest.fixture
def phx_connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """``await phx_connect(UserSocket, params, user=user)``: a TestSocket.

    From here on the async ORM works on the database connection of the test.
    """
    from .testing import connect
    from .testing.database import share

    if "db" in request.fixturenames:
        request.getfixturevalue("db")  # its transaction is what is shared
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
    """``phx_connect_sync(UserSocket, params, user=user)``: a SyncTestSocket."""
    from .testing import connect_sync

    with contextlib.ExitStack() as stack:

        def connect_and_keep(*args: Any, **kwargs: Any) -> SyncTestSocket:
            return stack.enter_context(connect_sync(*args, **kwargs))

        yield connect_and_keep
