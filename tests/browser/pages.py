"""Helpers for pages in the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

TIMEOUT = 10_000  # ms; after a restart, phoenix.js may wait for 5 s before it tries

Visit = Callable[[], Awaitable[Page]]

expect.set_options(timeout=TIMEOUT)


async def all_logged(page: Page) -> None:
    """Wait until what the page has logged has arrived here: messages come in order."""
    await page.evaluate("0")
