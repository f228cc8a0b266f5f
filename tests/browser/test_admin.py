"""The admin of what is live in Chromium: the sockets are in one process, the admin in another.

A Content-Security-Policy without exceptions is on; what it refuses would be an error in the console.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from redis.asyncio import Redis

from tests.browser.pages import Visit, all_logged, forget_outage
from tests.support import servers
from tests.support.tcp_proxy import TcpProxy
from tests.support.ws_client import Client

APPLICATION = "tests.browser.admin_app:application"
SCREENSHOTS = Path(__file__).parent / "screenshots"
ADMIN = "/admin/phx_protocol"
TOPICS = f"{ADMIN}/topic/"
ROOM = "tests.browser.admin_app.RoomChannel"


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
        self.port = self.admin.port
        #: the cookies of those who have signed in
        self.sessions: dict[str, Any] = {}

    def _start(self, log: Path, running: contextlib.ExitStack) -> servers.Server:
        started = servers.serve("uvicorn", log, APPLICATION, **self._env)
        return running.enter_context(started)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def client(self, user: int = 0, name: str = "") -> Client:
        """A client, of a user if there is a name."""
        whose = {"user": str(user), "name": name} if name else {}
        return Client(self.sockets.url, **whose)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Site]:
    with contextlib.ExitStack() as running:
        site = Site(tmp_path_factory.mktemp("admin"), redis_url, running)
        yield site
    for server in (site.sockets, site.admin):
        assert server.logged() == ""


async def sign_in(page: Page, site: Site, name: str, path: str = TOPICS) -> None:
    """Go to a page of the admin as this user: the first time through the login."""
    await page.context.add_cookies(site.sessions.get(name, []))
    await page.goto(site.url(path))
    if name not in site.sessions:
        await page.get_by_label("Username").fill(name)
        await page.get_by_label("Password").fill(name)
        await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("#user-tools")).to_contain_text(name)
    site.sessions[name] = await page.context.cookies()


@contextlib.asynccontextmanager
async def clients(site: Site, *topics: str) -> Any:
    """ada and bob, who have joined these topics, and somebody who has joined `news`."""
    async with (
        site.client(7, "ada") as ada,
        site.client(8, "bob") as bob,
        site.client() as guest,
    ):
        for topic in topics:
            await ada.join(topic)
            await bob.join(topic)
        await guest.join("news")
        yield ada, bob, guest


async def keep(page: Page, name: str) -> None:
    """A screenshot of the whole page, kept by the test run."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def main(page: Page) -> Locator:
    """Return the content of the page without the frame of the admin."""
    return page.get_by_role("main")


async def reload_until(page: Page, text: str) -> None:
    """Load the page again until it has this text: counts are up to a second old."""
    async with asyncio.timeout(10):
        while text not in " ".join((await main(page).inner_text()).split()):
            await page.reload()


def row(page: Page, name: str) -> Locator:
    """The row whose heading is `name`."""
    heading = page.get_by_role("rowheader", name=name, exact=True)
    return main(page).get_by_role("row").filter(has=heading)


def headings(page: Page) -> Locator:
    return main(page).get_by_role("rowheader")


async def look_again(page: Page) -> None:
    """The tab comes back into sight: the page asks at once."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def open_topic(page: Page, topic: str) -> None:
    await main(page).get_by_role("link", name=topic, exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(topic)


# --------------------------------------------------------------- what is shown


async def test_the_list_and_a_topic_show_what_is_live_in_another_process(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with clients(site, "room:lobby") as (ada, _, _):
        await ada.ask("room:lobby", "ask")
        await sign_in(page, site, "root")
        table = page.get_by_role("table", name="Topics that clients have joined")
        await expect(table.get_by_role("columnheader")).to_have_text(
            ["Topic", "Channel class", "Subscribers", "Presences", "Messages a second"]
        )
        await expect(row(page, "room:lobby").get_by_role("cell")).to_have_text(
            [ROOM, "2", "2", re.compile(r"\d\.\d")]
        )
        await keep(page, "topics")

        await open_topic(page, "room:lobby")
        connections = page.get_by_role("table", name="Connections")
        await expect(connections.get_by_role("row")).to_have_count(3)
        cells = (
            connections.get_by_role("row").filter(has_text="ada").get_by_role("cell")
        )
        await expect(cells).to_have_text(
            [
                "ada",
                re.compile(r"\w{16}"),
                "websocket",
                re.compile(r"20\d\d"),
                re.compile(r"\d+ s ago"),
                re.compile(r"0.bytes"),
                "Disconnect",
            ]
        )
        present = page.get_by_role("table", name="Presences")
        await expect(present.get_by_role("rowheader")).to_have_text(["7", "8"])
        await expect(present).to_contain_text('{"device": "desk", "phx_ref": "')
        await expect(page.get_by_role("region", name="History")).to_contain_text("20")
        await keep(page, "topic")

        await page.get_by_role("link", name="Nodes").click()
        nodes = page.get_by_role("table", name="Processes")
        await expect(nodes.get_by_role("rowheader")).to_have_count(1)
        await expect(nodes).to_contain_text("up")
        await keep(page, "nodes")
    await all_logged(page)


#: of each table, how far its headings' and its cells' texts stand from the left edge of the page
PLACES = """
tables => tables.map(table => {
  const left = cell => {
    const range = document.createRange()
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
    let text = texts.nextNode()
    while (!text.data.trim()) text = texts.nextNode()
    const from = text.data.search(/\\S/)
    range.setStart(text, from)
    range.setEnd(text, from + 1)
    const box = range.getBoundingClientRect(), own = cell.getBoundingClientRect()
    return {text: Math.round(box.left), inside: Math.round(box.left - own.left),
            above: Math.round(box.top - own.top)}
  }
  const [head, row] = [table.tHead.rows[0], table.tBodies[0].rows[0]]
  return {head: [...head.cells].map(left), row: [...row.cells].map(left)}
})
"""


async def test_headings_stand_above_their_columns_on_every_page(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with clients(site, "room:lobby"):
        await sign_in(page, site, "root")
        for path in ("topic/", "topic/room_3Alobby/change/", "connection/", "node/"):
            await page.goto(site.url(f"{ADMIN}/{path}"))
            await expect(headings(page).first).to_be_visible()
            if path == "connection/":
                await keep(page, "connections")
            tables = main(page).locator("table:has(tbody tr)")
            for table in await tables.evaluate_all(PLACES):
                for heading, cell in zip(table["head"], table["row"], strict=True):
                    assert abs(heading["text"] - cell["text"]) <= 1, (path, table)
                    assert min(heading["inside"], heading["above"]) >= 4, (path, table)
    await all_logged(page)


async def test_the_list_is_searched_sorted_and_paged(site: Site, visit: Visit) -> None:
    page = await visit()
    async with site.client() as one, site.client() as two:
        for n in range(60):
            await one.join(f"doc:{n:03}")
            await two.join(f"doc:{n + 45:03}")
        await sign_in(page, site, "viewer")
        await expect(main(page)).to_contain_text("105 topics")
        await expect(headings(page)).to_have_count(100)
        await page.get_by_role("link", name="Page 2").click()
        await expect(headings(page)).to_have_text([f"doc:{n}" for n in range(100, 105)])

        await main(page).get_by_role("link", name="Subscribers").click()
        await expect(headings(page).first).to_have_text("doc:045")
        sorted_by = page.get_by_role("columnheader", name="Subscribers")
        await expect(sorted_by).to_have_attribute("aria-sort", "descending")
        await sorted_by.get_by_role("link").click()
        await expect(headings(page).first).to_have_text("doc:000")
        await expect(sorted_by).to_have_attribute("aria-sort", "ascending")

        search = page.get_by_role("searchbox", name="Topic contains")
        await search.fill("DOC:04")
        await search.press("Enter")
        await expect(headings(page)).to_have_text(
            [f"doc:{n:03}" for n in range(40, 50)]
        )
        await expect(page).to_have_url(re.compile(r"q=DOC%3A04&o=subscribers"))
    await all_logged(page)


# ------------------------------------------------------------ how it stays true


async def test_what_comes_and_goes_is_shown_without_a_reload(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    news = page.get_by_role("status")
    async with site.client() as early:
        await early.join("room:early")
        await sign_in(page, site, "viewer")
        await expect(row(page, "room:early")).to_be_visible()
        await page.evaluate("window.neverReloaded = true")
        search = page.get_by_role("searchbox", name="Topic contains")
        await search.fill("half a wo")
        async with site.client() as late:
            await late.join("room:early")
            await late.join("<b>room:late</b>")
            await expect(row(page, "<b>room:late</b>")).to_be_visible()
            await expect(news).to_have_text("New: <b>room:late</b>.")
            subscribers = row(page, "room:early").get_by_role("cell").nth(1)
            await expect(subscribers).to_have_text("2")
            await expect(main(page)).to_contain_text("2 topics")
        await expect(row(page, "<b>room:late</b>")).to_have_count(0)
        await expect(news).to_have_text("Gone: <b>room:late</b>.")
        await expect(search).to_be_focused()
        await expect(search).to_have_value("half a wo")
    assert await page.evaluate("window.neverReloaded")
    await all_logged(page)


async def test_the_row_with_the_focus_stays_where_it_is(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with site.client() as one, site.client() as two:
        await one.join("room:m")
        await one.join("room:x")
        await sign_in(page, site, "viewer", TOPICS + "?o=-subscribers")
        focused = main(page).get_by_role("link", name="room:m")
        await focused.focus()
        await focused.evaluate("link => { window.link = link }")
        for topic in ("room:a", "room:x", "room:z"):
            await two.join(topic)
        await expect(headings(page)).to_have_text(
            ["room:x", "room:a", "room:m", "room:z"]
        )
        await expect(focused).to_be_focused()
        assert await page.evaluate("window.link === document.activeElement")
        # one that is gone stays as well, until the focus is elsewhere
        await one.send("room:m", "phx_leave", {}, one.join_refs["room:m"])
        await expect(row(page, "room:m")).to_have_class("phx-gone")
        await expect(focused).to_be_focused()
        await page.get_by_role("searchbox").last.focus()
        await expect(row(page, "room:m")).to_have_count(0)
    await all_logged(page)


async def test_nothing_is_asked_while_it_is_paused_hidden_or_text_is_selected(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    async def is_quiet() -> bool:
        """Whether nothing is asked, though now would be the time."""
        await page.wait_for_load_state("networkidle")
        before = len(asked)
        await look_again(page)
        await all_logged(page)
        return len(asked) == before

    async with site.client() as one:
        await one.join("room:one")
        await sign_in(page, site, "viewer")
        pause = page.get_by_role("button", name="Pause")
        await pause.click()
        await expect(pause).to_have_attribute("aria-pressed", "true")
        assert await is_quiet()
        await one.join("room:two")
        await pause.click()
        await expect(row(page, "room:two")).to_be_visible()

        title = "document.querySelector('h1')"
        await page.evaluate(f"getSelection().selectAllChildren({title})")
        assert await is_quiet()
        assert await page.evaluate("String(getSelection())") == "Topics"
        await page.evaluate("getSelection().removeAllRanges()")

        hide = (
            "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
        )
        await page.evaluate(hide % "true")
        assert await is_quiet()
        await page.evaluate(hide % "false")
        await one.join("room:three")
        await look_again(page)
        await expect(row(page, "room:three")).to_be_visible()
    await all_logged(page)


@pytest.mark.big
async def test_the_page_outlives_a_server_that_is_away(
    site: Site, visit: Visit, console: list[str]
) -> None:
    page = await visit()
    async with site.client() as one, TcpProxy(site.admin.port) as line:
        await one.join("room:one")
        site.port = line.port
        try:
            await sign_in(page, site, "viewer")
        finally:
            site.port = site.admin.port
        await expect(row(page, "room:one")).to_be_visible()
        await line.cut()
        await look_again(page)
        away = re.compile("The server has not answered since .+ Trying again.")
        await expect(page.get_by_role("status")).to_have_text(away)
        await expect(page.locator("[data-refresh]")).to_have_text(away)
        await expect(row(page, "room:one")).to_be_visible()
        await one.join("room:two")
        await line.mend()
        await expect(row(page, "room:two")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text(
            re.compile("(The server is back. )?New: room:two.")
        )
        await expect(page.locator("[data-refresh]")).to_contain_text("Updated at")
        await all_logged(page)
        await page.close()
    forget_outage(console)


async def test_a_user_who_was_signed_out_sees_a_notice(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with site.client() as one:
        await one.join("room:one")
        await sign_in(page, site, "viewer")
        await expect(row(page, "room:one")).to_be_visible()
        await page.context.clear_cookies()
        await look_again(page)
        await expect(page.get_by_role("status")).to_contain_text(
            "You may not see this any longer."
        )
        await expect(row(page, "room:one")).to_be_visible()
    await all_logged(page)


# ------------------------------------------------------------------ the actions


async def test_a_broadcast_is_checked_confirmed_and_reaches_the_clients(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with clients(site, "room:lobby") as (ada, bob, _):
        await sign_in(page, site, "root")
        await open_topic(page, "room:lobby")
        await page.get_by_role("link", name="Broadcast").click()
        await page.get_by_role("textbox", name="Event").fill("new_msg")
        payload = page.get_by_role("textbox", name="Payload")
        await payload.fill('{\n  "body": hello\n}')
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(main(page)).to_contain_text("in line 2, column 11")
        await expect(payload).to_have_value('{\n  "body": hello\n}')
        await expect(payload).to_have_attribute("aria-invalid", "true")
        await keep(page, "broadcast")

        await payload.fill('{\n  "body": "<b>hello</b>"\n}')
        await page.get_by_role("button", name="Continue").click()
        await expect(main(page)).to_contain_text(
            "2 clients on this topic will get this"
        )
        await keep(page, "broadcast-confirmation")
        await page.get_by_role("button", name="Change it").click()
        await expect(payload).to_have_value('{\n  "body": "<b>hello</b>"\n}')
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_role("button", name="Yes, broadcast it").click()
        await expect(main(page)).to_contain_text("Broadcast new_msg on room:lobby.")
        for client in (ada, bob):
            assert await client.until("new_msg") == {"body": "<b>hello</b>"}
        await expect(page.get_by_role("region", name="History")).to_contain_text(
            "1 of at"
        )

        await page.get_by_role("link", name="History of actions").click()
        await expect(main(page).get_by_role("row").last).to_contain_text(
            'Broadcast new_msg: {"body":"<b>hello</b>"}'
        )
    await all_logged(page)


async def test_messages_of_another_process_are_shown_as_they_come(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with clients(site, "room:tail"):
        await sign_in(page, site, "root")
        await open_topic(page, "room:tail")
        shown = page.get_by_role("region", name="Messages")
        await expect(shown).to_contain_text("Listening.")
        rows, hold = shown.locator("tbody tr"), shown.get_by_role("button", name="Hold")
        async with site.client(7, "eve") as eve:
            await eve.join("room:tail")
            await expect(rows).to_have_count(1)
            await expect(rows.first).to_contain_text("presence_diff")
            await expect(rows.first).to_contain_text('{"joins":{"7":')
            await hold.click()
            await expect(hold).to_have_attribute("aria-pressed", "true")
            await expect(shown).not_to_contain_text("Listening.")
        async with site.client(8, "kim") as kim:
            await kim.join("room:tail")
            await expect(row(page, "8")).to_be_visible()  # among the presences
            await expect(rows).to_have_count(1)
            await hold.click()
            await expect(shown).to_contain_text("Listening.")
        await expect(rows.first).to_contain_text('"leaves":{"8":')
        await keep(page, "tail")
    await all_logged(page)


async def test_one_connection_or_all_of_a_user_are_disconnected(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with (
        clients(site, "room:lobby") as (ada, bob, _),
        site.client(7, "ada") as laptop,
    ):
        await sign_in(page, site, "root")
        await open_topic(page, "room:lobby")
        await main(page).get_by_role("link", name="Disconnect bob").click()
        await expect(main(page)).to_contain_text("This connection will be closed")
        await keep(page, "disconnect")
        await page.get_by_role("button", name="Yes, I’m sure").click()
        assert await bob.closed() == 1001
        await expect(page.get_by_role("heading", level=1)).to_have_text("room:lobby")
        await expect(main(page)).to_contain_text("Disconnected the connection")
        await expect(page.get_by_role("link", name="bob")).to_have_count(0)

        await main(page).get_by_role("link", name="ada", exact=True).click()
        await page.get_by_role("link", name="Disconnect all of this user").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "Disconnect 2 connections of ada?"
        )
        await keep(page, "disconnect-user")
        await page.get_by_role("button", name="Yes, I’m sure").click()
        for client in (ada, laptop):
            assert await client.closed() == 1001
        await expect(headings(page)).to_have_count(1)  # the guest's
    await all_logged(page)


async def test_a_topic_is_closed_with_the_keyboard_alone(
    site: Site, visit: Visit
) -> None:
    page = await visit()
    async with clients(site, "room:lobby", "room:other") as (ada, bob, _):
        await sign_in(page, site, "root")
        await expect(row(page, "room:lobby")).to_be_visible()
        await skip_to_main(page)
        await tab_to(page, main(page).get_by_role("link", name="room:lobby"))
        await page.keyboard.press("Enter")
        close = page.get_by_role("link", name="Close topic")
        await close.wait_for()
        await skip_to_main(page)
        await tab_to(page, close)
        outline = await close.evaluate("link => getComputedStyle(link).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await reload_until(page, "The channels of 2 clients on this topic")
        await keep(page, "close")
        await skip_to_main(page)
        await tab_to(page, page.get_by_role("button", name="Yes, I’m sure"))
        await page.keyboard.press("Enter")
        for client in (ada, bob):
            await client.until("phx_close", "room:lobby")
            assert (await client.ask("room:other", "ask"))[0] == "ok"
        await expect(main(page)).to_contain_text("which 2 clients had joined")
        await expect(main(page)).to_contain_text("No client has joined this topic.")
    await all_logged(page)


async def skip_to_main(page: Page) -> None:
    """With the link that is the first of every page of the admin."""
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(main(page)).to_be_focused()


async def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it has the focus."""
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{wanted} cannot be reached")


# --------------------------------------------------------------- who, and with what


async def test_staff_without_permissions_sees_neither_links_nor_data(
    site: Site, visit: Visit, console: list[str]
) -> None:
    page = await visit()
    async with clients(site, "room:secret"):
        await sign_in(page, site, "nobody", "/admin/")
        await expect(page.get_by_text("Phoenix Channels")).to_have_count(0)
        await keep(page, "index-of-nobody")
        for path in (TOPICS, f"{TOPICS}room_3Asecret/change/", f"{ADMIN}/node/"):
            answer = await page.goto(site.url(path))
            assert answer is not None and answer.status == 403
            await expect(page.locator("body")).not_to_contain_text("secret")

        viewer = await visit()
        await sign_in(viewer, site, "viewer")
        await open_topic(viewer, "room:secret")
        await expect(viewer.get_by_role("table", name="Connections")).to_be_visible()
        for name in ("Broadcast", "Close topic", "Disconnect"):
            await expect(viewer.get_by_role("link", name=name)).to_have_count(0)
        await keep(viewer, "topic-of-viewer")

        lister = await visit()
        await sign_in(lister, site, "lister")
        await expect(lister.get_by_role("link", name="Nodes")).to_have_count(0)
        await open_topic(lister, "room:secret")
        await expect(lister.get_by_role("table", name="Connections")).to_have_count(0)
    await all_logged(page)
    assert console == [error for error in console if "status of 403" in error]
    console.clear()


BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}


async def test_all_text_can_be_read_in_light_and_dark(site: Site, visit: Visit) -> None:
    page = await visit()
    schemes: list[Any] = ["light", "dark"]
    async with clients(site, "room:lobby"):
        await sign_in(page, site, "root")
        lobby = f"{TOPICS}room_3Alobby"
        for name, path in [
            ("topics", TOPICS + "?o=-subscribers"),
            ("topic", f"{lobby}/change/"),
            ("empty", f"{TOPICS}nobody/change/"),
            ("broadcast", f"{lobby}/broadcast/"),
            ("close", f"{lobby}/close/"),
            ("nodes", f"{ADMIN}/node/"),
        ]:
            await page.goto(site.url(path))
            for scheme in schemes:
                await page.emulate_media(color_scheme=scheme)
                background = "getComputedStyle(document.body).backgroundColor"
                assert await page.evaluate(background) == BACKGROUND[scheme]
                # links fade from one colour to the other
                await page.evaluate(FADED)
                assert await page.evaluate(CONTRASTS) == []
                await keep(page, f"{name}-{scheme}")
    await all_logged(page)


FADED = (
    "Promise.allSettled(document.getAnimations().map((a) => a.finished)).then(() => 0)"
)
#: the texts whose contrast with what is behind them is below WCAG's 4.5
CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => channels(color).slice(0, 3)
    .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if ((channels(color)[3] ?? 1) === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("#content *")].filter((element) => {
    const says = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!(says || element.matches("input, textarea")) || !element.checkVisibility()) return false;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((element) => element.outerHTML.slice(0, 100));
}"""


async def test_it_works_without_javascript(site: Site, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    async with clients(site, "room:lobby") as (ada, _, _):
        await sign_in(page, site, "root", f"{TOPICS}room_3Alobby/change/")
        await expect(page.get_by_role("button", name="Pause")).to_have_count(0)
        await page.get_by_role("link", name="Close topic").click()
        await page.get_by_role("link", name="No, take me back").click()
        await page.get_by_role("link", name="Close topic").click()
        await reload_until(page, "The channels of 2 clients on this topic")
        await page.get_by_role("button", name="Yes, I’m sure").click()
        await ada.until("phx_close", "room:lobby")
        await expect(main(page)).to_contain_text("which 2 clients had joined")
    await context.close()


# ------------------------------------------------------------------ big numbers


async def join_all(client: Client, topics: list[str]) -> None:
    """Join them at once: the next is asked for before the last one is answered."""
    for topic in topics:
        await client.send(topic, "phx_join", {})
    for _ in topics:
        assert (await client.until("phx_reply"))["status"] == "ok"


@pytest.mark.big
async def test_ten_thousand_topics(site: Site, visit: Visit, redis_url: str) -> None:
    page = await visit()
    page.set_default_timeout(60_000)
    async with contextlib.AsyncExitStack() as open, Redis.from_url(redis_url) as redis:
        joined = [await open.enter_async_context(site.client()) for _ in range(100)]
        for n, client in enumerate(joined):
            await join_all(client, [f"doc:{n:02}:{m:02}" for m in range(100)])
        await sign_in(page, site, "viewer")
        await expect(main(page)).to_contain_text("10000 topics")
        await page.get_by_role("button", name="Pause").click()
        await page.wait_for_load_state("networkidle")

        async def commands(path: str) -> int:
            """Count the commands that Redis gets while this page is loaded and no process beats."""
            counts = []
            for _ in range(3):
                before = (await redis.info("stats"))["total_commands_processed"]
                await page.goto(site.url(TOPICS + path))
                await page.get_by_role("button", name="Pause").click()
                after = (await redis.info("stats"))["total_commands_processed"]
                counts.append(int(after - before))
            return min(counts)

        # no topic is asked for by itself
        assert await commands("") < 100
        await expect(headings(page)).to_have_count(100)
        await keep(page, "ten-thousand")
        await page.get_by_role("link", name="Page 100", exact=True).click()
        await expect(headings(page).last).to_have_text("doc:99:99")
        assert await commands("?q=42%3A") < 100
        await expect(main(page)).to_contain_text("100 topics")
        await expect(headings(page).first).to_have_text("doc:42:00")

        for _ in range(50):
            await joined[77].send("doc:77:77", "ask", {})
        assert await commands("?o=-rate") < 100
        await expect(headings(page).first).to_have_text("doc:77:77")
        assert await commands("?o=-topic&p=100") < 100
        await expect(headings(page).last).to_have_text("doc:00:00")
    await all_logged(page)
