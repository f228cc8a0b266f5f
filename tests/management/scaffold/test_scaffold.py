"""phx_channel, phx_socket and phx_presence, as a user runs them in a project that has just begun."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.support.servers import ROOT

PYTHON = sys.executable


def run(directory: Path, *args: str) -> str:
    """Return what `args` print, run by this Python; an AssertionError if they fail."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO_")}
    done = subprocess.run(
        [PYTHON, *args],
        cwd=directory,
        env={**env, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Project(NamedTuple):
    directory: Path
    printed: str
    generated: list[Path]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two apps, one with its tests in a package, in which everything was generated."""
    directory = tmp_path_factory.mktemp("project")
    run(directory, "-m", "django", "startproject", "mysite", ".")
    for app in ("chat", "game"):
        run(directory, "manage.py", "startapp", app)
    (directory / "game/tests.py").unlink()
    (directory / "game/tests").mkdir()
    (directory / "game/tests/__init__.py").touch()
    path = directory / "mysite/settings.py"
    installed = 'INSTALLED_APPS = ["channels", "phx_protocol", "chat", "game",'
    path.write_text(path.read_text().replace("INSTALLED_APPS = [", installed))
    before = set(directory.rglob("*.py"))
    commands = [
        ("phx_channel", "chat", "room"),
        ("phx_channel", "chat", "ChatRoom"),
        ("phx_socket", "chat", "user"),
        ("phx_presence", "chat"),
        ("phx_channel", "game", "table"),
        ("phx_presence", "game", "table"),
    ]
    printed = "".join(run(directory, "manage.py", *args) for args in commands)
    return Project(directory, printed, sorted({*directory.rglob("*.py")} - before))


def test_code_and_tests_are_where_django_looks_for_them(project: Project) -> None:
    assert [str(p.relative_to(project.directory)) for p in project.generated] == [
        "chat/channels.py",
        "chat/presence.py",
        "chat/sockets.py",
        "chat/test_chat_presence.py",
        "chat/test_chat_room_channel.py",
        "chat/test_room_channel.py",
        "chat/test_user_socket.py",
        "game/channels.py",
        "game/presence.py",
        "game/tests/test_table_channel.py",
        "game/tests/test_table_presence.py",
    ]


def test_the_tests_pass_as_generated(project: Project) -> None:
    assert "Ran 10 tests" in run(project.directory, "manage.py", "test")


def test_they_pass_with_pytest_too(project: Project) -> None:
    args = ("-m", "pytest", "-q", "--ds=mysite.settings", "-p", "no:cacheprovider")
    assert "10 passed" in run(project.directory, *args)


@pytest.mark.parametrize(
    "tool",
    [("black", "--check"), ("isort", "--check", "--profile", "black"), ("flake8",)],
)
def test_the_code_is_formatted(project: Project, tool: tuple[str, ...]) -> None:
    run(project.directory, "-m", *tool, *map(str, project.generated))


def test_the_command_says_what_to_do_next(project: Project) -> None:
    assert '"CHANNELS": {"room:*": "chat.channels.RoomChannel"}' in project.printed
    assert '"CHANNELS": {"chat_room:*": "chat.channels.ChatRoom' in project.printed
    assert '"SOCKETS": {"/socket": "chat.sockets.UserSocket"}' in project.printed
    assert "presence = ChatPresence" in project.printed
    assert 'socket.channel("room:lobby")' in project.printed


def test_the_advice_for_the_settings_works(project: Project) -> None:
    settings_py = project.directory / "mysite/settings.py"
    added = [
        "PHX_PROTOCOL = {",
        '    "CHANNELS": {"room:*": "chat.channels.RoomChannel"},',
        '    "SOCKETS": {"/socket": "chat.sockets.UserSocket"},',
        "}",
    ]
    assert all(line in project.printed for line in added)
    before = settings_py.read_text()
    settings_py.write_text("\n".join([before, *added, ""]))
    try:
        routes = run(project.directory, "manage.py", "phx_routes")
    finally:
        settings_py.write_text(before)
    assert routes.splitlines()[-2:] == [
        "/socket (/socket/websocket)  chat.sockets.UserSocket",
        "  room:*  chat.channels.RoomChannel",
    ]


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of an installed app ``scratch``."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    (directory / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "scratch"]):
        yield directory
    sys.modules.pop("scratch", None)


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


@pytest.mark.parametrize(
    "command, args, said",
    [
        ("phx_channel", ["shop", "room"], "No installed app with label 'shop'"),
        ("phx_channel", ["shop", "room"], "channels, .*, scratch"),
        ("phx_channel", ["scratch", "2room"], "letters, digits and underscores"),
        ("phx_channel", ["scratch", "../room"], "letters, digits and underscores"),
        ("phx_channel", ["scratch", "räum"], "letters, digits and underscores"),
        ("phx_channel", ["scratch", "_"], "letters, digits and underscores"),
        ("phx_presence", ["scratch", ""], "letters, digits and underscores"),
        (
            "phx_channel",
            ["scratch", "taken"],
            "TakenChannel is there already: take another",
        ),
        ("phx_channel", ["scratch", "tested"], "test_tested_channel.py is there"),
        ("phx_socket", ["scratch", "user"], "sockets.py is no Python: .*line 1"),
        ("phx_presence", ["scratch", "room"], "Presence is not that of phx_protocol"),
        ("phx_channel", ["scratch", "dangling"], "No such file .*Nothing was written"),
    ],
)
def test_an_obstacle_is_named_and_nothing_is_written(
    app: Path, command: str, args: list[str], said: str
) -> None:
    (app / "channels.py").write_text("class TakenChannel: ...\n")
    (app / "test_tested_channel.py").write_text("mine = True\n")
    (app / "sockets.py").write_text("class UserSocket(\n")
    (app / "presence.py").write_text("from mine import Presence\n")
    (app / "test_dangling_channel.py").symlink_to(app / "nowhere" / "test.py")
    before = contents(app)
    with pytest.raises(CommandError, match=said):
        call_command(command, *args, stdout=io.StringIO())
    assert contents(app) == before


def test_a_dry_run_shows_and_writes_nothing(app: Path) -> None:
    before, out = contents(app), io.StringIO()
    call_command("phx_channel", "scratch", "room", "--dry-run", stdout=out)
    assert "    class RoomChannel(Channel):" in out.getvalue()
    assert "    class RoomChannelTests(TestCase):" in out.getvalue()
    assert contents(app) == before


@pytest.mark.parametrize("name", ["chat_room", "ChatRoom", "ChatRoomChannel"])
def test_a_name_may_be_written_in_several_ways(app: Path, name: str) -> None:
    call_command("phx_channel", "scratch", name, verbosity=0, stdout=io.StringIO())
    assert "class ChatRoomChannel(Channel)" in (app / "channels.py").read_text()
    assert (app / "test_chat_room_channel.py").exists()


def test_line_ends_stay_as_they_are(app: Path) -> None:
    mine = b'"""Mine."""\r\n\r\nx = 1\r\n'
    (app / "channels.py").write_bytes(mine)
    call_command("phx_channel", "scratch", "room", verbosity=0, stdout=io.StringIO())
    written = (app / "channels.py").read_bytes()
    assert b"x = 1\r\n\r\n\r\nclass RoomChannel(Channel):\r\n" in written
    assert written.count(b"\n") == written.count(b"\r\n")
