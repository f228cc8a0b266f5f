"""Helpers for pages in the browser."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

TIMEOUT = 10_000  # ms; after a restart, phoenix.js may wait for 5 s before it tries

Visit = Callable[[], Awaitable[Page]]

expect.set_options(timeout=TIMEOUT)

# what Chromium says of a server that it cannot reach; which of the net:: errors is a matter of luck
UNREACHABLE = re.compile(
    r"WebSocket connection to '\S+' failed|"
    r"Failed to load resource: (net::ERR_|.* status of 503)"
)


def forget_outage(console: list[str]) -> None:
    """Forget what a console said while a server was away; what is said from now on is an error."""
    console[:] = [error for error in console if not UNREACHABLE.match(error)]


async def all_logged(page: Page) -> None:
    """Wait until what the page has logged has arrived here: messages come in order."""
    await page.evaluate("0")
