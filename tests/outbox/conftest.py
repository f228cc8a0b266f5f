"""A database that commits, an outbox in it, and who hears what it sends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pytest_django import DjangoDbBlocker

from phx_protocol.node.node import Node, get_node
from phx_protocol.outbox.relays import Relays
from tests.support import databases

from .hearing import Hearing

_numbers = itertools.count()


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.process)]
)
def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    django_db_blocker: DjangoDbBlocker,
    settings: Any,
) -> Iterator[str]:
    """The name of a database with the tables of the outbox, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        chosen = databases.sqlite_in(tmp_path)
    else:
        server = request.getfixturevalue("postgres")
        chosen = databases.settings_of("postgresql", str(server.port))
    # another one in each test: threads keep the connections that they have
    name = f"outbox{next(_numbers)}"
    outbox = {"DATABASES": [name], "POLL": 30.0, "LEASE": 30.0}
    settings.PHX_PROTOCOL = {
        "OUTBOX": outbox,
        "SOCKETS": {"/socket": "tests.outbox.hearing.OutboxSocket"},
    }
    with django_db_blocker.unblock(), databases.known(name, chosen):
        yield name


@pytest.fixture
def outbox_channels(settings: Any) -> None:
    """The channels of the topics, without a database."""
    settings.PHX_PROTOCOL = {
        "SOCKETS": {"/socket": "tests.outbox.hearing.OutboxSocket"}
    }


@pytest_asyncio.fixture
async def hearing() -> AsyncIterator[Callable[..., Any]]:
    """Subscribe to topics; return what hears them."""
    node = get_node()
    opened: list[Hearing] = []

    async def hear(*topics: str) -> Hearing:
        opened.append(await Hearing.of(node, *topics))
        return opened[-1]

    yield hear
    for one in opened:
        one.close()
    await node.part(Relays).settled()
    await node.close()


@pytest_asyncio.fixture
async def node(database: str) -> AsyncIterator[Node]:
    """The node of the test; its relays end with it."""
    node = get_node()
    yield node
    await node.part(Relays).settled()
    await node.close()
