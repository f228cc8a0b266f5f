"""The admin of what is live in Chromium: the sockets are in one process, the admin in another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests import servers
from tests.browser.pages import PATIENCE, Visit, heard_out
from tests.client import Client
from tests.line import Line

APPLICATION = "tests.browser.admin_app:application"
SCREENSHOTS = Path(__file__).parent / "screenshots"
TOPICS = "/admin/phx_protocol/topic/"


class Site:
    """Two processes on one Redis with one database; their topics are seen by nobody else."""

    def __init__(
        self, directory: Path, redis_url: str, running: contextlib.ExitStack
    ) -> None:
        self._env = {
            "DJANGO_SETTINGS_MODULE": "tests.browser.admin_settings",
            "PHX_ADMIN_DB": str(directory / "db.sqlite3"),
            "PHX_ADMIN_PREFIX": directory.name,
            "PHX_REDIS_URL": redis_url,
        }
        prepare = [sys.executable, "-m", "tests.browser.admin_app"]
        env = {**os.environ, **self._env}
        subprocess.run(prepare, cwd=servers.ROOT, env=env, check=True, timeout=60)
        self.sockets = self._start(directory / "sockets.log", running)
        self.admin = self._start(directory / "admin.log", running)

    def _start(self, log: Path, running: contextlib.ExitStack) -> servers.Server:
        started = servers.serve("uvicorn", log, APPLICATION, **self._env)
        return running.enter_context(started)

    def client(self, user: int = 0, name: str = "", **params: str) -> Client:
        """A client, of a user if there is a name."""
        whose = {"user": str(user), "name": name} if name else {}
        return Client(self.sockets.url, **whose, **params)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Site]:
    with contextlib.ExitStack() as running:
        yield Site(tmp_path_factory.mktemp("admin"), redis_url, running)


async def sign_in(page: Page, site: Site, name: str, path: str = TOPICS) -> None:
    await page.goto(f"http://{site.admin.address}{path}")
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(name)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("#user-tools")).to_contain_text(name)


async def keep(page: Page, name: str) -> None:
    """A screenshot of the whole page, kept by the test run."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def row(page: Page, name: str) -> Locator:
    """The row of a table whose heading is `name`."""
    heading = page.get_by_role("rowheader", name=name, exact=True)
    return page.get_by_role("row").filter(has=heading)


async def look_again(page: Page) -> None:
    """What the page does when its tab comes back into sight: it asks at once."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def test_the_list_and_a_topics_page_show_what_is_live_in_another_process(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with (
        site.client(7, "ada", device="phone") as ada,
        site.client(8, "bob") as bob,
        site.client() as guest,
    ):
        for client in (ada, bob):
            await client.join("room:lobby")
        await guest.join("news")
        await sign_in(page, site, "root")
        await expect(page.get_by_role("table", name="Topics")).to_be_visible()
        await expect(row(page, "room:lobby").get_by_role("cell")).to_have_text(
            ["tests.browser.admin_app.RoomChannel", "2", "2", re.compile(r"\d\.\d")]
        )
        await keep(page, "list")
        await row(page, "room:lobby").get_by_role("link").click()
        await keep(page, "topic")
    await heard_out(page)
