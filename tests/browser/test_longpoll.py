"""Long-poll in real browsers: Chromium and phoenix.js from npm, where no WebSocket gets through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, WebSocket, expect

from tests.browser.pages import Visit, all_logged, forget_outage
from tests.support import servers

APPLICATION = "tests.browser.asgi:application"
SERVERS = ["daphne", "uvicorn"]

BLOCKED = re.compile(
    r"Access to XMLHttpRequest at '\S+' .* has been blocked by CORS policy"
)


def page_url(origin: str, **query: object) -> str:
    return f"{origin}/?{urlencode(query)}"


async def expect_shown(page: Page, **shown: str) -> None:
    for what, text in shown.items():
        await expect(page.locator(f"#{what}")).to_have_text(text)


# ---------------------------------------------------------------- the fallback

# how WebSockets are dead, the milliseconds until phoenix.js may give them up, what it opens
DEAD = [
    ("daphne", "refused", 60_000, "LongPoll"),  # it need not wait
    ("uvicorn", "unanswered", 300, "LongPoll"),
    ("uvicorn", "swallowed", 300, "WebSocket, LongPoll"),
]


@pytest.mark.parametrize(("server", "websockets", "timeout", "opened"), DEAD)
async def test_pages_fall_back_to_long_poll_and_chat_where_websockets_are(
    server: str,
    websockets: str,
    timeout: int,
    opened: str,
    visit: Visit,
    console: list[str],
    tmp_path: Path,
) -> None:
    port = servers.free_port()
    origin = f"http://127.0.0.1:{port}"
    command = servers.command(server, port, f"tests.browser.asgi:{websockets}")
    with servers.run(command, port, tmp_path / "log", PHX_PAGE_ORIGIN=origin):
        ada, bob = await visit(), await visit()
        for page in (ada, bob):
            await page.goto(page_url(origin, topic="room:lobby", fallback=timeout))
            await expect_shown(page, channel="joined", opened=opened)
        echoed = await ada.evaluate("ask('echo', {a: [1, 'ü', null]})")
        assert echoed == {"a": [1, "ü", None]}
        await ada.evaluate("ask('shout_ack', {text: 'hello, says ada'})")
        await bob.evaluate("ask('shout_ack', {text: 'hello, says bob'})")
        for page in (ada, bob):
            heard = page.locator("#heard > li")
            await expect(heard).to_have_text(["hello, says ada", "hello, says bob"])
            await expect_shown(page, opened=opened, closed="")
        await expect_long_poll_at_once_when_reloaded(ada)
        for page in (ada, bob):
            await all_logged(page)
            await page.close()  # before the server stops
    forget_outage(console)


async def expect_long_poll_at_once_when_reloaded(page: Page) -> None:
    websockets: list[WebSocket] = []
    page.on("websocket", lambda websocket: websockets.append(websocket))
    await page.reload()
    await expect_shown(page, channel="joined", opened="LongPoll")
    assert websockets == []


# ------------------------------------------------- authToken, from another origin


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The server of the page, which serves no socket that the page uses."""
    log = tmp_path_factory.mktemp("pages") / "log"
    with servers.serve("uvicorn", log, "tests.browser.asgi:refused") as running:
        yield running


@pytest.fixture(scope="module", params=SERVERS)
def sockets(
    request: pytest.FixtureRequest,
    pages: servers.Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[servers.Server]:
    """The socket, which allows the pages of http://127.0.0.1:PORT."""
    log = tmp_path_factory.mktemp("sockets") / "log"
    origin = f"http://127.0.0.1:{pages.port}"
    with servers.serve(
        request.param, log, APPLICATION, PHX_PAGE_ORIGIN=origin
    ) as running:
        yield running


TRANSPORTS = ["WebSocket", "LongPoll"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_auth_token_of_a_page_of_another_origin_is_seen(
    transport: str, pages: servers.Server, sockets: servers.Server, visit: Visit
) -> None:
    logged = len(sockets.logged())
    page = await visit()
    await page.goto(
        page_url(
            f"http://127.0.0.1:{pages.port}",
            socket=f"ws://localhost:{sockets.port}/socket",
            transport=transport,
            topic="token",
            token="ey.J-_:t1",
        )
    )
    await expect_shown(page, opened=transport, channel="joined", token="ey.J-_:t1")
    preflights = "OPTIONS /socket/longpoll" in sockets.logged()[logged:]
    assert preflights == (transport == "LongPoll")
    await all_logged(page)
    await page.close()


# what phoenix.js makes of it: a preflight that is refused is an error of the network
REFUSED = [
    ("WebSocket", {"token": "t-1"}, "1006"),
    ("LongPoll", {}, "1008"),
    ("LongPoll", {"token": "t-1"}, "1011"),
]


@pytest.mark.parametrize(("transport", "token", "closed"), REFUSED)
async def test_a_page_of_an_origin_that_is_not_allowed_is_refused(
    transport: str,
    token: dict[str, str],
    closed: str,
    pages: servers.Server,
    sockets: servers.Server,
    visit: Visit,
    console: list[str],
) -> None:
    logged = len(sockets.logged())
    origin = f"http://localhost:{pages.port}"  # the host has another name
    page = await visit()
    await page.goto(
        page_url(
            origin,
            socket=f"ws://localhost:{sockets.port}/socket",
            transport=transport,
            topic="token",
            **token,
        )
    )
    await expect_shown(page, closed=closed, opened="", channel="")
    said = f"the Origin '{origin}' is not allowed"
    assert said in sockets.logged()[logged:]
    await all_logged(page)
    await page.close()
    forget_outage(console)
    assert all(BLOCKED.match(error) for error in console)
    console.clear()
