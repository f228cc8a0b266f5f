"""A server goes on when PostgreSQL ends its connections, as it does when it restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from tests.support import servers
from tests.support.ws_client import TIMEOUT, Client

LOST = ("error", {"reason": "the connection is lost"})


@pytest.fixture(scope="module")
def site(
    postgres: servers.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("site") / "log"
    env = {"PHX_TEST_DATABASE": "postgresql", "PGPORT": str(postgres.port)}
    with servers.serve("uvicorn", log, "tests.hangs.asgi:application", **env) as site:
        yield site


@pytest.fixture
def database(postgres: servers.Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user="postgres", autocommit=True
    ) as database:
        yield database


def end(database: psycopg.Connection, process: int) -> None:
    database.execute("SELECT pg_terminate_backend(%s, 5000)", [process])


async def busy(database: psycopg.Connection) -> int:
    """Wait until PostgreSQL works on a question; return which process does."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            found = database.execute(
                "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            ).fetchone()
            if found:
                return int(found[0])
            await asyncio.sleep(0.01)


async def answered(client: Client, way: str) -> int:
    """Ask until there is an answer: a server looks once a second for connections that are lost."""
    async with asyncio.timeout(TIMEOUT):
        while (answer := await client.ask("room:1", way)) == LOST:
            pass
    assert answer[0] == "ok"
    return int(answer[1]["process"])


WAYS = pytest.mark.parametrize("way", ["plain def", "async def", "wrapped"])


@WAYS
async def test_a_connection_that_ends_between_two_events_is_opened_again(
    site: servers.Server, database: psycopg.Connection, way: str
) -> None:
    async with Client(site.url) as client:
        await client.join("room:1")
        before = await answered(client, way)
        end(database, before)
        assert await answered(client, way) != before


@WAYS
async def test_a_connection_that_ends_while_it_is_asked_keeps_nobody_waiting(
    site: servers.Server, database: psycopg.Connection, way: str
) -> None:
    async with Client(site.url) as client:
        await client.join("room:1")
        ref = await client.push("room:1", way, {"seconds": 600})
        asked = await busy(database)
        end(database, asked)
        assert await client.reply(ref) == LOST
        assert await answered(client, way) != asked
