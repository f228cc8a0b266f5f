"""session.js in Chromium: several tabs, and a laptop that sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import TIMEOUT, Visit, all_logged
from tests.support import servers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("session") / "log"
    with servers.serve("uvicorn", log, "tests.integration.token_app:application") as s:
        yield s


async def enter(page: Page, site: servers.Server, seconds: float) -> None:
    await page.goto(f"http://{site.address}/?seconds={seconds}")
    await expect(page.locator("#state")).to_have_text("joined")


async def until(page: Page, expression: str) -> None:
    await page.wait_for_function(expression, timeout=TIMEOUT)


async def test_of_several_tabs_one_asks_and_all_go_on(
    site: servers.Server, visit: Visit, console: list[str]
) -> None:
    first = await visit()
    tabs = [first, await first.context.new_page(), await first.context.new_page()]
    for tab in tabs:
        await enter(tab, site, seconds=4)
    token = await first.evaluate("socket.authToken()")
    for _ in range(2):  # each time a token nears its end
        for tab in tabs:
            await until(tab, f"socket.authToken() !== {token!r}")
        await asyncio.sleep(0.3)  # what one tab has told has come to the others
        tokens = {await tab.evaluate("socket.authToken()") for tab in tabs}
        (token,) = tokens
    asked = sum([await tab.evaluate("asked") for tab in tabs])
    assert 2 <= asked <= 3  # not six
    for tab in tabs:
        assert await tab.evaluate("echo()") == "ok"
        assert await tab.evaluate("codes") == []
        await all_logged(tab)
    assert console == []


async def test_a_laptop_that_has_slept_has_a_new_token_when_it_wakes(
    site: servers.Server, visit: Visit, console: list[str]
) -> None:
    page = await visit()
    await page.clock.install()
    await enter(page, site, seconds=3600)
    assert await page.evaluate("echo()") == "ok"  # the server has said when it ends
    assert await page.evaluate("asked") == 0
    await page.clock.fast_forward("01:00:00")
    await until(page, "asked > 0")
    assert await page.evaluate("echo()") == "ok"
    assert await page.evaluate("[asked, codes]") == [1, []]
    await all_logged(page)
    assert console == []
