"""The tutorial, followed to the letter: an empty folder, its commands, its files, two browsers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Page, expect

from tests.packaging.wheel import Distribution
from tests.support import servers

TUTORIAL = (servers.ROOT / "docs/tutorial.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
#: a file's block begins with its name
NAME = re.compile(
    r"(?:#|//|<!--) (?P<path>[\w./]+)(?P<append>, at the end)?(?: -->)?\n"
)
DONE = "-- done --"
STARTED = "Starting ASGI/Daphne"
RELOADING = " changed, reloading."
CHANNEL = "chat/channels.py"
#: seconds that a command may take
TIMEOUT = 60


class Terminal:
    """A shell in the folder, into which the commands are typed."""

    def __init__(self, folder: Path, log: Path, env: dict[str, str]) -> None:
        self.log = log
        self.process = servers.start(
            ["bash", "-e"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, commands: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(commands)
        self.process.stdin.flush()

    def run(self, commands: str) -> None:
        """Type `commands` and wait until they are done; fails where one of them does."""
        before = self.said(DONE)
        self.type(f"{commands}echo {DONE}\n")
        self.wait_for(DONE, before)

    def said(self, text: str) -> int:
        """Count how often it was written."""
        return self.log.read_text().count(text)

    def wait_for(
        self, text: str, before: int, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Until `text` has been said more often than `before`."""
        end = time.monotonic() + TIMEOUT
        while self.said(text) == before:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
            if meanwhile is not None:
                meanwhile()

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def environment(wheel: Path) -> dict[str, str]:
    """That of a user who has not heard of these tests, with the package where pip finds it."""
    hidden = ("DJANGO", "PYTHON", "PYTEST", "PHX", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    own = Path(sys.executable).parent
    path = [p for p in env["PATH"].split(os.pathsep) if Path(p) != own]
    links = f"{env.get('PIP_FIND_LINKS', '')} {wheel.parent}"
    env |= {"PATH": os.pathsep.join(path), "PIP_FIND_LINKS": links}
    return {**env, "PYTHONUNBUFFERED": "1"}  # as in a terminal


class Reader:
    """Does what the tutorial says, a section at a time."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.port = servers.free_port()
        self.terminals = [
            Terminal(self.folder, folder / f"{name}.log", environment(wheel))
            for name in ("first", "second")
        ]
        self.is_serving = False
        self.sections = {
            text.partition("\n")[0]: text for text in TUTORIAL.split("\n## ")[1:]
        }

    @property
    def first(self) -> Terminal:
        return self.terminals[0]

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def follow(self, title: str) -> None:
        """The blocks of the section, from top to bottom."""
        for language, text in BLOCK.findall(self.sections.pop(title)):
            if language == "sh":
                self.run(text)
            else:
                self.write(text)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Wait until the server has noticed what the ``with`` block writes, and has started again.

        It looks once a second, and misses what was written before it had looked once: no reader
        is so quick. So the channel is saved again and again.
        """
        before = self.first.said(STARTED)
        yield
        self.first.wait_for(RELOADING, before - 1, (self.folder / CHANNEL).touch)
        self.wait_until_serving(before)

    def run(self, commands: str) -> None:
        if "runserver" in commands:
            # another port: 8000 may be taken where tests run
            self.first.type(commands.replace("runserver", f"runserver {self.port}"))
            self.wait_until_serving(0)
            self.is_serving = True
        else:
            self.terminals[self.is_serving].run(commands)

    def wait_until_serving(self, before: int) -> None:
        self.first.wait_for(STARTED, before)
        servers.wait_for_port(self.port, self.first.process)

    def write(self, text: str) -> None:
        name = NAME.match(text)
        assert name is not None, f"which file is this?\n{text}"
        path = self.folder / name["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        body = text[name.end() :]
        path.write_text(path.read_text() + "\n" + body if name["append"] else body)


@pytest.fixture
def reader(tmp_path: Path, distribution: Distribution) -> Iterator[Reader]:
    reader = Reader(tmp_path, distribution.wheel)
    yield reader
    for terminal in reader.terminals:
        terminal.close()


async def enter(page: Page, reader: Reader, name: str) -> None:
    await page.goto(reader.url())
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Enter the lobby").click()
    await expect(page.get_by_role("heading", name="lobby")).to_be_visible()


async def say(page: Page, text: str) -> None:
    await page.get_by_placeholder("Say something").fill(text)
    await page.get_by_role("button", name="Send").click()


async def test_two_browsers_chat_when_the_tutorial_was_followed(
    reader: Reader, browser: Browser
) -> None:
    began = time.monotonic()
    ann, bob, admin = [await (await browser.new_context()).new_page() for _ in range(3)]
    broken: list[Error] = []
    for page in (ann, bob):
        page.on("pageerror", lambda error: broken.append(error))

    for title in ("A project", "A channel", "A page"):
        reader.follow(title)
    await enter(ann, reader, "ann")
    await enter(bob, reader, "bob")
    await say(ann, "hello")
    await expect(bob.get_by_text("ann: hello")).to_be_visible()
    await say(bob, "hi")
    await expect(ann.get_by_text("bob: hi")).to_be_visible()
    print(f"two browsers chat after {time.monotonic() - began:.0f} seconds")

    with reader.reloading():
        reader.follow("Who is here")
    for page in (ann, bob):
        await page.reload()
    for page in (ann, bob):
        await expect(page.locator("#people")).to_have_text("ann, bob")
    await bob.goto("about:blank")
    await expect(ann.locator("#people")).to_have_text("ann")

    with reader.reloading():
        reader.follow("What was said stays")
    await enter(bob, reader, "bob")
    await ann.reload()
    await say(ann, "this stays")
    await expect(bob.get_by_text("ann: this stays")).to_be_visible()
    await bob.reload()
    await expect(bob.get_by_text("ann: this stays")).to_be_visible()

    await admin.goto(reader.url("/admin/chat/message/add/"))
    await admin.get_by_label("Username").fill("admin")
    await admin.get_by_label("Password").fill("secret")
    await admin.get_by_role("button", name="Log in").click()
    await admin.get_by_label("Room").fill("lobby")
    await admin.get_by_label("By").fill("the admin")
    await admin.get_by_label("Body").fill("good evening")
    await admin.get_by_role("button", name="Save", exact=True).click()
    for page in (ann, bob):
        await expect(page.get_by_text("the admin: good evening")).to_be_visible()
    await admin.goto(reader.url("/admin/phx_protocol/topic/"))
    await expect(admin.get_by_role("link", name="room:lobby")).to_be_visible()

    reader.follow("From a shell")
    for page in (ann, bob):
        await expect(page.get_by_text("the shell: hello")).to_be_visible()
    listed = reader.terminals[1].log.read_text()
    assert re.search(r"^room:lobby +2 ", listed, re.MULTILINE)

    reader.follow("A test")
    assert "Ran 2 tests" in reader.terminals[1].log.read_text()
    assert list(reader.sections) == ["From here"]
    assert broken == []
    print(f"and all of it is done after {time.monotonic() - began:.0f} seconds")
