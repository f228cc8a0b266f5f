"""Debian's Chromium, and visitors with pages in it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.browser.pages import TIMEOUT, Visit, all_logged

CHROMIUM = "/usr/bin/chromium"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file have one browser, and so one event loop."""
    for item in items:
        if HERE in item.path.parents and isinstance(item, pytest.Function):
            if inspect.iscoroutinefunction(item.function):
                item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture
def console() -> Iterator[list[str]]:
    """The errors in the consoles of all pages; one that is left fails the test."""
    errors: list[str] = []
    yield errors
    assert errors == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=OPTIONS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, console: list[str]) -> AsyncIterator[Visit]:
    """Makes the page of a new visitor, who shares no cookies with the others."""
    pages: list[Page] = []

    def listen(said: ConsoleMessage) -> None:
        if said.type == "error":
            console.append(said.text)

    async def new_page() -> Page:
        page = await (await browser.new_context()).new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", listen)
        page.on("pageerror", lambda error: console.append(str(error)))
        pages.append(page)
        return page

    yield new_page
    for page in pages:
        if not page.is_closed():
            await all_logged(page)
    for page in pages:
        await page.context.close()
