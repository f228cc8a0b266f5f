"""Pages that use presences, on real servers: who waits for whom."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.integration.views_app:application"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.integration.views_settings"}
EMAIL = "ada@example.com"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one user."""
    path = tmp_path_factory.mktemp("views") / "db.sqlite3"
    env = {**SETTINGS, "PHX_DATABASE": str(path)}
    code = (
        "import django; django.setup(); from django.core.management import call_command as do;"
        "do('migrate', verbosity=0); from django.contrib.auth.models import User;"
        f"User.objects.create(username='ada', email={EMAIL!r})"
    )
    servers.python(code, env, check=True)
    with sqlite3.connect(path) as connection:
        connection.execute("pragma journal_mode=wal")
    return path


@pytest.fixture(scope="module", params=["uvicorn", "daphne"])
def server(
    request: pytest.FixtureRequest, database: Path, tmp_path_factory: Any
) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("views") / "log"
    env = {**SETTINGS, "PHX_DATABASE": str(database)}
    with servers.serve(request.param, log, APPLICATION, **env) as server:
        yield server


def page(server: servers.Server, path: str) -> Any:
    """The JSON of a page. Raises HTTPError, for a 500 say."""
    url = f"http://{server.address}/{path}"
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


async def asked(server: servers.Server, path: str) -> Any:

    return await asyncio.to_thread(page, server, path)


@pytest.mark.parametrize("path", ["plain", "thread"])
async def test_a_page_lists_presences_with_a_fetch_that_uses_the_orm(
    server: servers.Server, path: str
) -> None:
    async with Client(server.url) as client:
        await client.join("room:1")
        await client.until("presence_diff")
        for _ in range(3):  # also in a thread that was used before
            assert (await asked(server, path))["ada"]["email"] == EMAIL
    assert "crashed" not in server.logged()


async def test_a_page_lists_presences_with_a_fetch_that_lists_others_in_sync_code(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        await client.join("room:1")
        await client.until("presence_diff")
        await client.until("presence_diff")
        for _ in range(3):
            found = await asked(server, "nested")
            assert found["ada"]["rooms"]["ada"]["email"] == EMAIL


async def test_a_page_tracks_and_updates_presences(server: servers.Server) -> None:
    async with Client(server.url) as client:
        await client.join("room:1")
        found = await asked(server, "tracks")
        assert (found["metas"][0]["n"], found["email"]) == (2, "")
        await client.until("tracked")


@pytest.mark.parametrize("event", ["list in a thread", "list in Django's thread"])
async def test_a_handler_lists_presences_in_sync_code(
    server: servers.Server, event: str
) -> None:
    async with Client(server.url) as client:
        await client.join("room:1")
        await client.until("presence_diff")
        status, presences = await client.ask("room:1", event)
        assert (status, presences["ada"]["email"]) == ("ok", EMAIL)


@pytest.mark.parametrize("age", [0, pytest.param(1, marks=pytest.mark.big)])
async def test_a_connection_to_the_database_is_closed_when_all_is_silent(
    database: Path, tmp_path: Path, age: int
) -> None:
    env = {"PHX_DATABASE": str(database), "PHX_CONN_MAX_AGE": str(age)}
    with servers.serve(
        "uvicorn", tmp_path / "log", APPLICATION, **SETTINGS, **env
    ) as server:
        async with Client(server.url) as client:
            await client.join("room:1")
            assert await client.ask("room:1", "query") == ("ok", {"users": 1})
            async with asyncio.timeout(20):
                while (await asked(server, "open"))["open"]:
                    await asyncio.sleep(0.05)
