"""The plugin for pytest: one test knows nothing of the Socket classes of another, nor has connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import servers

#: where each test says what is known of the topic at its beginning
SUITE = """
import pytest
from phx_protocol import Channel, History, Socket
from phx_protocol.asgi import get_phoenix_application
from phx_protocol.socket.routes import channels_of
from phx_protocol.testing import connect, connect_sync


def answering(topic):
    channel = type("Channel_" + topic, (Channel,), {"join": lambda self, payload: "ok"})
    return type("Socket_" + topic, (Socket,), {"channels": {topic: channel}})


OfTheModule, OfTheFixture, OfATest = map(answering, ("module", "fixture", "test"))
get_phoenix_application({"/socket": OfTheModule})


@pytest.fixture(scope="session")
def application():
    return get_phoenix_application({"/socket": OfTheFixture})


def known():
    return [t for t in ("module", "fixture", "test") if channels_of(t)]


def test_nothing_else_is_known_at_first():
    assert known() == ["module"]


async def test_its_own_and_that_of_the_session(application):
    assert known() == ["module", "fixture"]
    await (await connect(OfATest)).close()
    assert known() == ["module", "fixture", "test"]


def test_sockets_of_the_last_test_are_forgotten():
    assert known() == ["module", "fixture"]
    with connect_sync(OfATest, wire=False):
        assert known() == ["module", "fixture", "test"]


def test_sockets_of_an_application_of_a_test_are_forgotten_too():
    assert known() == ["module", "fixture"]
    get_phoenix_application({"/socket": OfATest})
    assert known() == ["module", "fixture", "test"]


class TestAfterThat:
    def test_it_is_forgotten(self):
        assert known() == ["module", "fixture"]
"""


#: the last test of a run has just used a connection
LAST = """
import pytest
from phx_protocol.testing import connect
from tests.hangs.rooms import RoomSocket


@pytest.mark.django_db(transaction=True)
async def test_a_handler_uses_the_database():
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("acreate", {"name": "one"}), "ok")
    await socket.close()
"""


def run(tests: Path, **env: str) -> str:
    """Run the suite in the folder `tests`; return what pytest says."""
    settings = f"--rootdir={tests}", "--ds=tests.settings", "--asyncio-mode=auto"
    command = "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings, str(tests)
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **env},
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_sockets_that_a_test_mounts_are_unmounted_when_it_ends(tmp_path: Path) -> None:
    """Sockets that a module or a fixture of the session has mounted stay."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    said = run(tmp_path)
    assert "5 passed" in said, said


def test_behind_the_last_test_the_database_can_be_dropped(
    tmp_path: Path, postgres: servers.Server
) -> None:
    """PostgreSQL drops none to which somebody is connected."""
    (tmp_path / "test_last.py").write_text(LAST)
    port, suffix = str(postgres.port), "of_the_last_test"  # this run may have another
    said = run(
        tmp_path,
        PHX_TEST_DATABASE="postgresql",
        PGPORT=port,
        TOX_PARALLEL_ENV=suffix,
    )
    assert "1 passed" in said and "Error when trying to teardown" not in said, said
