"""The demo in real browsers: Chromium, phoenix.js from npm, Daphne and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.pages import Visit, all_logged, forget_outage
from tests.support import servers
from tests.support.commands import on_bus
from tests.support.tcp_proxy import TcpProxy

PHOENIX = servers.ROOT / "project/node_modules/phoenix/priv/static/phoenix.mjs"
HELLO = "Hello from a Django view!"


#: numbers of databases in Redis: what is kept there is of one database of the demo
databases = itertools.count(1)


@dataclass
class Demo:
    """The demo with a database of its own, to be started and stopped at will."""

    directory: Path
    port: int
    env: dict[str, str]

    @property
    def log(self) -> Path:
        return self.directory / "demo.log"

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def manage(self, *args: str) -> str:
        """The output of a manage.py command, which runs as a process of its own."""
        ran = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=servers.ROOT,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def running(self) -> contextlib.AbstractContextManager[servers.Server]:
        address = f"127.0.0.1:{self.port}"
        command = [sys.executable, "manage.py", "runserver", "--noreload", address]
        return servers.run(command, self.port, self.log, **self.env)


def prepare(directory: Path, redis_url: str) -> Demo:
    if not PHOENIX.is_file():
        pytest.fail(
            f"{PHOENIX} is missing, so that the demo's pages cannot load "
            "/static/phoenix/phoenix.mjs: run `npm install` in project/ (or `make test`).",
            pytrace=False,
        )
    env = {
        # pytest-django has put the tests' settings into the environment
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PHX_DEMO_DB": str(directory / "db.sqlite3"),
        "PHX_REDIS_URL": redis_url and f"{redis_url[:-1]}{next(databases)}",
    }
    demo = Demo(directory, servers.free_port(), env)
    demo.manage("migrate", "--verbosity", "0")
    return demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Demo]:
    """The demo, served by Daphne for all tests of this module."""
    demo = prepare(tmp_path_factory.mktemp("demo"), redis_url)
    with demo.running():
        yield demo


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo as ``make demo`` starts it: without Redis."""
    with on_bus() as env:
        demo = prepare(tmp_path_factory.mktemp("alone"), "")
        demo.env |= {
            key: env[key] for key in ("XDG_RUNTIME_DIR", "PYTEST_CURRENT_TEST")
        }
        with demo.running():
            yield demo


async def sign_in(page: Page, name: str) -> None:
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Enter").click()


async def enter(visit: Visit, demo: Demo, name: str, room: str = "lobby") -> Page:
    """The page of somebody who has come in by the front door and joined the room."""
    page = await visit()
    await page.goto(demo.url())
    await sign_in(page, name)
    await page.locator("#rooms").get_by_role("link", name=room).click()
    await expect_status(page, "connected")
    return page


async def open_room(page: Page, name: str) -> None:
    await page.get_by_label("Open a room").fill(name)
    await page.get_by_role("button", name="Open").click()
    await expect_status(page, "connected")


async def expect_status(page: Page, state: str) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-state", state)


async def say(page: Page, body: str) -> None:
    await page.get_by_label("Message to").fill(body)
    await page.get_by_role("button", name="Send").click()


async def expect_message(page: Page, author: str, body: str) -> None:
    """The page shows what `author` said, once."""
    message = page.locator("#messages .message").filter(
        has=page.locator(".body").get_by_text(body, exact=True)
    )
    await expect(message.locator(".author")).to_have_text([author])


async def expect_chat(one: Page, name: str, two: Page, other: str, about: str) -> None:
    """Each says something, both see both, and nothing waits to be sent."""
    await say(one, f"{about}, says {name}")
    await expect_message(two, name, f"{about}, says {name}")
    await say(two, f"{about}, says {other}")
    for page in (one, two):
        await expect_message(page, name, f"{about}, says {name}")
        await expect_message(page, other, f"{about}, says {other}")
        await expect(page.locator("#outbox > *")).to_have_count(0)


async def test_two_people_sign_in_by_name_and_chat(demo: Demo, visit: Visit) -> None:
    ada = await enter(visit, demo, "ada")
    bob = await enter(visit, demo, "bob")
    await expect(ada.locator(".me")).to_have_text("ada")
    await expect(bob.locator(".me")).to_have_text("bob")
    await expect_chat(ada, "ada", bob, "bob", "Nice weather")


async def test_a_broadcast_from_the_command_line_arrives_in_the_page(
    demo: Demo, visit: Visit
) -> None:
    page = await enter(visit, demo, "carol")
    await open_room(page, "lunch")  # its id is larger than those of the others
    payload = {
        "id": 1_000_000,
        "author": "operator",
        "body": "Lunch is ready <b>now</b>",
        "created": "2025-01-02T03:04:05.678Z",
    }
    said = demo.manage("phx_broadcast", "room:lunch", "new_msg", json.dumps(payload))
    assert "new_msg was broadcast on room:lunch." in said
    await expect_message(page, "operator", "Lunch is ready <b>now</b>")
    time = page.locator('[data-id="1000000"] time')
    await expect(time).to_have_attribute("datetime", "2025-01-02T03:04:05.678Z")


async def test_a_django_view_says_hello_to_everybody_in_the_room(
    demo: Demo, visit: Visit
) -> None:
    dora = await enter(visit, demo, "dora")
    emil = await enter(visit, demo, "emil")
    await dora.get_by_role("button", name="Say hello from a Django view").click()
    for page in (dora, emil):
        await expect_message(page, "dora", HELLO)
        await expect(page.get_by_text(HELLO, exact=True)).to_have_count(1)
        await expect_status(page, "connected")


async def test_pages_join_again_by_themselves_when_the_server_is_back(
    tmp_path: Path, redis_url: str, visit: Visit, console: list[str]
) -> None:
    demo = prepare(tmp_path, redis_url)
    with demo.running():
        ada = await enter(visit, demo, "ada")
        bob = await enter(visit, demo, "bob")
        await expect_chat(ada, "ada", bob, "bob", "Before")
        for page in (ada, bob):
            await page.evaluate("window.neverReloaded = true")
    for page in (ada, bob):
        await expect_status(page, "reconnecting")
    with demo.running():
        for page in (ada, bob):
            await expect_status(page, "connected")
        await expect_chat(ada, "ada", bob, "bob", "After")
        for page, name in [(ada, "ada"), (bob, "bob")]:
            await expect_message(page, name, f"Before, says {name}")
            assert await page.evaluate("window.neverReloaded") is True
            await all_logged(page)
            await page.close()  # before the server stops again
    forget_outage(console)


async def expect_people(page: Page, *people: str) -> None:
    """The page shows who is here, and nobody else."""
    await expect(page.locator("#people li")).to_have_count(len(people))
    for one in people:
        await expect(
            page.locator("#people").get_by_text(one, exact=True)
        ).to_have_count(1)


async def test_the_room_shows_who_is_here(demo: Demo, visit: Visit) -> None:
    path = "/rooms/who/"
    ivy = await enter(visit, demo, "ivy")
    await ivy.get_by_label("Open a room").fill("who")
    await ivy.get_by_role("button", name="Open").click()
    await expect_people(ivy, "ivy")
    joe = await enter(visit, demo, "joe")
    await joe.goto(demo.url(path))
    await expect_people(ivy, "ivy", "joe")
    again = await joe.context.new_page()
    await again.goto(demo.url(path))
    for page in (ivy, joe, again):
        await expect_people(page, "ivy", "joe (2 tabs)")
    await again.close()
    for page in (ivy, joe):
        await expect_people(page, "ivy", "joe")
    await joe.close()
    await expect_people(ivy, "ivy")


async def test_who_reloads_a_page_does_not_disappear_for_the_others(
    demo: Demo, visit: Visit
) -> None:
    path = "/rooms/reload/"
    kim = await enter(visit, demo, "kim")
    await kim.get_by_label("Open a room").fill("reload")
    await kim.get_by_role("button", name="Open").click()
    leo = await enter(visit, demo, "leo")
    await leo.goto(demo.url(path))
    await expect_people(kim, "kim", "leo")
    await kim.evaluate("""() => {
          window.changes = 0;
          const people = document.getElementById("people");
          new MutationObserver(() => (window.changes += 1)).observe(people, { childList: true });
        }""")
    for _ in range(2):
        await leo.reload()
        await expect_people(leo, "kim", "leo")
    assert await kim.evaluate("window.changes") == 0
    await leo.close()
    await expect_people(kim, "kim")


async def test_a_tab_that_was_offline_catches_up(
    demo: Demo, visit: Visit, console: list[str]
) -> None:
    async with TcpProxy(demo.port) as line:
        far = dataclasses.replace(demo, port=line.port)
        kim = await enter(visit, far, "kim")
        lou = await enter(visit, demo, "lou")
        await expect_chat(kim, "kim", lou, "lou", "On the line")
        await kim.evaluate("window.neverReloaded = true")
        await line.cut()
        await expect_status(kim, "reconnecting")
        for i in range(3):
            await say(lou, f"Unheard {i}")
            await expect_message(lou, "lou", f"Unheard {i}")
        await line.mend()
        await expect_status(kim, "connected")
        for i in range(3):
            await expect_message(kim, "lou", f"Unheard {i}")
        after = kim.locator(".missed ~ .message .body")
        await expect(after).to_have_text(["Unheard 0", "Unheard 1", "Unheard 2"])
        assert await kim.evaluate("window.neverReloaded") is True
        await all_logged(kim)
        await kim.close()  # before the line is cut again
    forget_outage(console)


async def test_a_page_has_what_was_said_between_its_making_and_its_join(
    demo: Demo, visit: Visit
) -> None:
    """The script comes late; somebody talks before, meanwhile and while the page joins."""
    mia = await enter(visit, demo, "mia")
    await open_room(mia, "between")
    await say(mia, "0")
    await expect_message(mia, "mia", "0")
    ned = await enter(visit, demo, "ned")
    said = 1

    async def talk(count: int) -> None:
        nonlocal said
        for _ in range(count):
            await say(mia, f"{said}")
            said += 1
        await expect(mia.locator("#messages .message")).to_have_count(said)

    has_loaded = asyncio.Event()

    async def late(route: Route) -> None:
        await talk(3)
        await route.continue_()
        has_loaded.set()

    await ned.route("**/chat.js", late)
    url, requests = demo.url("/rooms/between/"), list[str]()
    ned.on("request", lambda request: requests.append(request.url))
    await ned.goto(url, wait_until="commit")
    await expect(ned.locator("#message-template")).to_be_attached()
    made_with = json.loads(await ned.locator("#latest").text_content() or "")
    assert [message["body"] for message in made_with] == ["0"]
    await has_loaded.wait()
    await asyncio.gather(talk(10), expect_status(ned, "connected"))
    bodies = ned.locator("#messages .body")
    await expect(bodies).to_have_text([str(i) for i in range(said)])
    assert requests.count(url) == 1  # the page was not made again
    # who was not away has missed nothing
    await expect(ned.locator(".missed")).to_have_count(0)


async def test_pages_joined_while_somebody_talks_all_the_time_have_everything_once(
    demo: Demo, visit: Visit
) -> None:
    olga = await enter(visit, demo, "olga")
    await open_room(olga, "busy")
    paul = await enter(visit, demo, "paul")
    is_over = False

    async def talk() -> int:
        said = 0
        while not is_over:
            await say(olga, f"{said}")
            said += 1
        return said

    talking = asyncio.create_task(talk())
    pages = []
    for _ in range(4):
        pages.append(await paul.context.new_page())
        await pages[-1].goto(demo.url("/rooms/busy/"))
        await expect_status(pages[-1], "connected")
    is_over = True
    said = await talking
    assert said > 4
    for page in [olga, *pages]:
        bodies = page.locator("#messages .body")
        await expect(bodies).to_have_text([str(i) for i in range(said)][-50:])
        await page.close()


async def test_what_was_said_while_a_server_without_redis_was_away_is_in_the_page_again(
    tmp_path: Path, visit: Visit, console: list[str]
) -> None:
    """Its history is gone with it: the page has to be made again."""
    with on_bus() as env:
        demo = prepare(tmp_path, "")
        demo.env |= {
            key: env[key] for key in ("XDG_RUNTIME_DIR", "PYTEST_CURRENT_TEST")
        }
        with demo.running():
            rosa = await enter(visit, demo, "rosa")
            await say(rosa, "Before")
            await expect_message(rosa, "rosa", "Before")
            await rosa.evaluate("window.neverReloaded = true")
        await expect_status(rosa, "reconnecting")
        create = (
            "from project.chat.models import Message, Room, settings;"
            "from django.contrib.auth.models import User;"
            "Message.objects.create(room=Room.objects.get(name='lobby'),"
            " author=User.objects.get(username='rosa'), body='Meanwhile')"
        )
        demo.manage("shell", "-c", create)
        with demo.running():
            await expect_message(rosa, "rosa", "Meanwhile")
            await expect_message(rosa, "rosa", "Before")
            after = rosa.locator(".missed ~ .message .body")
            await expect(after).to_have_text(["Meanwhile"])
            assert await rosa.evaluate("window.neverReloaded") is True
            sven = await enter(visit, demo, "sven")
            bodies = sven.locator("#messages .body")
            await expect(bodies).to_have_text(["Before", "Meanwhile"])
            await all_logged(rosa)
            await rosa.close()
            await sven.close()
    forget_outage(console)


async def test_what_is_committed_is_on_every_page_in_the_end_though_the_server_is_killed(
    tmp_path: Path, redis_url: str, visit: Visit, console: list[str]
) -> None:
    """Messages of a request, the admin and a command; one page is offline, another is opened late."""
    demo = prepare(tmp_path, redis_url)

    def command(*bodies: str) -> None:
        """One transaction of a process that ends at once."""
        create = (
            "from django.db import transaction\n"
            "from django.contrib.auth.models import User\n"
            "from project.chat.models import Room\n"
            "lobby = Room.objects.get(name='lobby')\n"
            "ada = User.objects.get(username='ada')\n"
            "with transaction.atomic():\n"
            f"    for body in {bodies!r}:\n"
            "        lobby.messages.create(author=ada, body=body)\n"
        )
        demo.manage("shell", "-c", create)

    async with TcpProxy(demo.port) as line:
        far = dataclasses.replace(demo, port=line.port)
        with demo.running() as server:
            ada = await enter(visit, demo, "ada")
            bob = await enter(visit, far, "bob")
            await expect_chat(ada, "ada", bob, "bob", "Before")
            admin = await visit()
            await as_superuser(admin, demo)
            await line.cut()  # bob is offline
            await expect_status(bob, "reconnecting")
            await ada.get_by_role("button", name="Say hello").click()
            await write_in_admin(admin, demo, "From the admin")
            await expect_message(ada, "ada", "From the admin")
            await asyncio.to_thread(command, "From a command", "And another one")
            cat = await enter(visit, demo, "cat")  # in the middle
            await say(cat, "Who is here?")
            await expect_message(ada, "cat", "Who is here?")
            await admin.close()
            await asyncio.to_thread(server.stop, signal.SIGKILL)
        # committed while nobody serves
        await asyncio.to_thread(command, "While all was dark", "Still dark")
        await expect_status(ada, "reconnecting")
        with demo.running():
            await line.mend()
            for page in (ada, bob, cat):
                await expect_status(page, "connected")
            await say(bob, "I am back")
            shown = [
                *("Before, says ada", "Before, says bob", HELLO, "From the admin"),
                *("From a command", "And another one", "Who is here?"),
                *("While all was dark", "Still dark", "I am back"),
            ]
            for page in (ada, bob, cat):
                await expect(page.locator("#messages .body")).to_have_text(shown)
                await all_logged(page)
                await page.close()
    forget_outage(console)
    # the admin has no icon
    console[:] = [error for error in console if "404" not in error]


async def as_superuser(page: Page, demo: Demo) -> None:
    create = (
        "from django.contrib.auth.models import User;"
        "User.objects.create_superuser('root', password='secret')"
    )
    await asyncio.to_thread(demo.manage, "shell", "-c", create)
    await page.goto(demo.url("/admin/"))
    await page.get_by_label("Username").fill("root")
    await page.get_by_label("Password").fill("secret")
    await page.get_by_role("button", name="Log in").click()


async def write_in_admin(page: Page, demo: Demo, body: str) -> None:
    await page.goto(demo.url("/admin/chat/message/add/"))
    await page.get_by_label("Room").select_option(label="lobby")
    await page.get_by_label("Author").select_option(label="ada")
    await page.get_by_label("Body").fill(body)
    await page.get_by_role("button", name="Save", exact=True).click()


async def test_an_anonymous_visitor_is_asked_to_sign_in_and_returns_to_the_room(
    demo: Demo, visit: Visit
) -> None:
    page = await visit()
    await page.goto(demo.url("/rooms/lobby/"))
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("for people who have signed in (unauthorized)")
    await expect_status(page, "refused")
    await expect(page.get_by_label("Message to")).to_have_count(0)
    await expect(page.locator("#messages > *")).to_have_count(0)
    await expect(page.locator("#latest")).to_have_count(0)
    await notice.get_by_role("link", name="Sign in").click()
    await sign_in(page, "fred")
    await expect(page).to_have_url(demo.url("/rooms/lobby/"))
    await expect_status(page, "connected")
    await expect(notice).to_be_hidden()


async def test_signing_out_ends_the_chat_in_other_tabs_too(
    demo: Demo, visit: Visit
) -> None:
    page = await enter(visit, demo, "hedy")
    other = await page.context.new_page()
    await other.goto(demo.url("/rooms/lobby/"))
    await expect_status(other, "connected")
    await page.get_by_role("button", name="Sign out").click()
    notice = other.get_by_role("alert")
    await expect(notice).to_contain_text("for people who have signed in (unauthorized)")
    await other.close()


async def test_a_whole_visit_leaves_the_console_without_errors(
    demo: Demo, visit: Visit, console: list[str]
) -> None:
    page = await enter(visit, demo, "gina")
    await say(page, "Anybody here?")
    await expect_message(page, "gina", "Anybody here?")
    await page.get_by_label("Open a room").fill("Book Club")
    await page.get_by_role("button", name="Open").click()
    await expect(page).to_have_url(demo.url("/rooms/book-club/"))
    await expect_status(page, "connected")
    await page.get_by_role("button", name="Say hello from a Django view").click()
    await expect_message(page, "gina", HELLO)
    await page.reload()
    await expect_message(page, "gina", HELLO)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Your name")).to_be_visible()
    await all_logged(page)
    assert console == []


async def test_the_commands_of_the_readme_work_beside_make_demo(
    visit: Visit, alone: Demo
) -> None:
    """With nothing installed beside it: the second shell reaches both pages."""
    ada = await enter(visit, alone, "ada")
    bob = await enter(visit, alone, "bob")
    readme = (servers.ROOT / "README.md").read_text()
    (typed,) = re.findall(r"`manage\.py (phx_broadcast [^`]+)`", readme)
    said = alone.manage(*shlex.split(typed))
    assert "new_msg was broadcast on room:lobby" in said
    for page in (ada, bob):
        await expect_message(page, "somebody", "hello")
    assert re.search(r"^room:lobby +2 ", alone.manage("phx_topics"), re.MULTILINE)
    assert alone.manage("phx_sockets").count("websocket") == 2
    assert "serving" in alone.manage("phx_nodes")
    code = "from phx_protocol import broadcast; broadcast('room:lobby', 'new_msg', %s)"
    alone.manage("shell", "-c", code % {"body": "and from Python", "by": "shell"})
    for page in (ada, bob):
        await expect_message(page, "shell", "and from Python")
