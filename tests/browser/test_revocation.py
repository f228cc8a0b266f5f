"""session.js in Chromium, when its token is revoked, and when everything is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.pages import TIMEOUT, Visit, all_logged, forget_outage
from tests.clients.test_revocation_js import Site
from tests.support.ws_client import Client


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = await asyncio.to_thread(
        Site, tmp_path, "tests.browser.revoked_app:application"
    )
    await asyncio.to_thread(site.start)
    yield site
    await asyncio.to_thread(site.stop)


async def tell(site: Site, event: str, **payload: Any) -> Any:
    async with Client(f"ws://127.0.0.1:{site.port}", "/control") as control:
        await control.join("control")
        status, response = await control.ask("control", event, payload)
    assert status == "ok"
    return response


async def enter(page: Page, site: Site, new_token: Any) -> None:
    """Open a page that has its tokens from `new_token`."""
    await page.expose_function("newToken", new_token)
    await page.goto(f"http://127.0.0.1:{site.port}/?mount=/fresh&topic=staff:1")
    await expect(page.locator("#state")).to_have_text("joined")


async def until(page: Page, expression: str) -> None:
    await page.wait_for_function(expression, timeout=TIMEOUT)


async def test_a_page_whose_token_is_revoked_comes_back_with_a_fresh_one(
    site: Site, visit: Visit, console: list[str]
) -> None:
    page, user = await visit(), await tell(site, "prepare")
    tokens = [user["token"]]

    async def new_token() -> str:
        # a token says in which second it was made
        await asyncio.sleep(1.1)
        tokens.append((await tell(site, "another", user=user["user"]))["token"])
        return tokens[-1]

    await enter(page, site, new_token)
    revoked = tokens[-1]
    await tell(site, "take_away", how="revoke", user=user["user"], token=revoked)
    await until(page, "codes.length && socket.isConnected()")
    assert await page.evaluate("socket.authToken()") == tokens[-1] != revoked
    assert await page.evaluate("echo()") == "ok"
    assert await page.evaluate("[codes, denials]") == [[4401], 0]
    await all_logged(page)
    assert console == []


async def test_a_page_that_has_nothing_but_a_revoked_token_stops(
    site: Site, visit: Visit, console: list[str]
) -> None:
    page, user = await visit(), await tell(site, "prepare")
    await enter(page, site, lambda: user["token"])
    await tell(site, "take_away", how="revoke", user=user["user"], token=user["token"])
    await until(page, "denials === 1")
    await asyncio.sleep(0.5)
    assert await page.evaluate("[codes[0], socket.isConnected()]") == [4401, False]
    await all_logged(page)
    # Chromium says of each connect that was refused
    forget_outage(console)


async def test_a_page_is_back_when_everything_is_restarted_but_not_a_revoked_one(
    site: Site, visit: Visit, console: list[str]
) -> None:
    page, intruder = await visit(), await visit()
    good, bad = await tell(site, "prepare"), await tell(site, "prepare")
    await enter(page, site, lambda: good["token"])
    await enter(intruder, site, lambda: bad["token"])
    await tell(site, "take_away", how="revoke", user=bad["user"], token=bad["token"])
    await until(intruder, "denials === 1")
    await asyncio.to_thread(site.stop)
    await until(page, "codes.length")
    await asyncio.to_thread(site.start)
    await until(page, "socket.isConnected()")
    assert await page.evaluate("echo()") == "ok"
    assert await page.evaluate("denials") == 0
    forget_outage(console)
    # what it has is refused by the new processes too
    await intruder.reload()
    await until(intruder, "denials === 1")
    assert not await intruder.evaluate("socket.isConnected()")
    await all_logged(page)
    await all_logged(intruder)
    forget_outage(console)
