"""Several processes on one Redis, on both layers of channels_redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.ws_client import Client

LAYERS = ["redis", "pubsub", "core"]
Two = tuple[servers.Server, servers.Server]
#: for what is the same on each layer, as far as it can be told
ONE_LAYER = pytest.mark.parametrize(
    "layer",
    ["redis", *(pytest.param(layer, marks=pytest.mark.big) for layer in LAYERS[1:])],
    indirect=True,
)


@pytest.fixture(scope="module", params=LAYERS)
def layer(request: pytest.FixtureRequest, redis_url: str) -> dict[str, str]:
    # a database for each layer keeps the tests apart
    url = redis_url.replace("/0", f"/{1 + LAYERS.index(request.param)}")
    return {"PHX_LAYER": request.param, "PHX_REDIS_URL": url}


@contextlib.contextmanager
def two_on(
    layer: dict[str, str], folder: Path, application: str = servers.CONFORMANCE
) -> Iterator[Two]:
    with (
        servers.serve("uvicorn", folder / "one", application, **layer) as one,
        servers.serve("uvicorn", folder / "two", application, **layer) as two,
    ):
        yield one, two


@pytest.fixture(scope="module")
def two(
    layer: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    """For the tests that leave the processes as they were."""
    with two_on(layer, tmp_path_factory.mktemp("processes")) as two:
        yield two


@contextlib.asynccontextmanager
async def joined(topic: str, *running: servers.Server) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(server.url)) for server in running
        ]
        for client in clients:
            assert await client.join(topic) == ("ok", {})
        yield clients


async def test_a_broadcast_reaches_the_other_process_once_and_in_order(
    two: Two,
) -> None:
    async with joined("room:order", *two) as (sender, receiver):
        for i in range(200):
            await sender.push("room:order", "shout", {"i": i})
        await sender.push("room:order", "whisper", {"i": 200})
        await sender.push("room:order", "shout", {"i": "end"})
        for client, wanted in (
            (sender, [*range(200), "end"]),
            (receiver, [*range(201), "end"]),
        ):
            assert [(await client.until("shout"))["i"] for _ in wanted] == wanted
        # and nothing twice: the next frame is the answer to this
        assert await receiver.ask("room:order", "ok") == ("ok", {})


async def test_an_intercepted_broadcast_passes_through_handle_out_over_there(
    two: Two,
) -> None:
    async with joined("room:secret", *two) as (sender, receiver):
        await sender.push("room:secret", "secret", {"a": 1})
        assert await receiver.until("secret") == {"a": 1, "for": "anonymous"}


async def test_disconnect_closes_sockets_on_every_process(two: Two) -> None:
    one, other = two
    async with Client(one.url) as admin, Client(other.url, user_id="far") as user:
        await admin.join("room:1")
        assert (await admin.ask("room:1", "disconnect_user", {"user_id": "far"}))[
            0
        ] == "ok"
        assert await user.closed() == 1001


@pytest.fixture
def guarded(layer: dict[str, str], tmp_path: Path) -> Iterator[Two]:
    with two_on(layer, tmp_path, "tests.integration.asgi:application") as two:
        yield two


@ONE_LAYER
async def test_a_logout_and_a_reauthorize_reach_every_process(guarded: Two) -> None:
    one, other = guarded
    async with (
        Client(one.url, "/guarded", user="1") as near,
        Client(other.url, "/guarded", user="1") as far,
        Client(other.url, "/guarded", user="2") as stranger,
        Client(other.url, "/guarded", user="3", stays="no") as leaver,
    ):
        for client in (near, far, stranger, leaver):
            await client.join("guarded")
        assert (await near.ask("guarded", "shut"))[0] == "ok"
        await leaver.until("phx_close")
        assert (await stranger.ask("guarded", "shut"))[0] == "ok"  # is still there
        await stranger.push("guarded", "log_out", {"user": "1"})
        assert await near.closed() == await far.closed() == 1001
        assert (await stranger.ask("guarded", "shut"))[0] == "ok"


@ONE_LAYER
async def test_a_command_and_a_shell_reach_the_sockets(
    two: Two, layer: dict[str, str]
) -> None:
    env = {
        **os.environ,
        **layer,
        "DJANGO_SETTINGS_MODULE": "tests.conformance.settings",
    }

    def run(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "django", *args]
        return subprocess.run(
            command,
            env=env,
            cwd=servers.ROOT,
            input=stdin,
            capture_output=True,
            text=True,
        )

    async with joined("room:cli", *two) as clients:
        done = await asyncio.to_thread(
            run, "phx_broadcast", "room:cli", "news", '{"a": 1}'
        )
        assert (done.returncode, done.stdout) == (
            0,
            "news was broadcast on room:cli.\n",
        ), done.stderr
        done = await asyncio.to_thread(
            run, "phx_broadcast", "room:cli", "news", "-", stdin=json.dumps({"a": 2})
        )
        assert done.returncode == 0, done.stderr
        code = "from phx_protocol import broadcast; broadcast('room:cli', 'news', {'a': 3})"
        done = await asyncio.to_thread(run, "shell", "-c", code)
        assert done.returncode == 0, done.stderr
        for client in clients:
            assert [await client.until("news") for _ in range(3)] == [
                {"a": 1},
                {"a": 2},
                {"a": 3},
            ]


@pytest.mark.parametrize("name", LAYERS)
async def test_redis_may_go_and_come_back(name: str, tmp_path: Path) -> None:
    """Sockets stay, local delivery goes on, and what is between processes comes back by itself."""
    port = servers.free_port()
    env = {"PHX_LAYER": name, "PHX_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(servers.redis(tmp_path, port))
        one = stack.enter_context(servers.serve("uvicorn", tmp_path / "one", **env))
        two = stack.enter_context(servers.serve("uvicorn", tmp_path / "two", **env))
        async with joined("room:redis", one, two) as (sender, receiver):
            await sender.push("room:redis", "shout", {"i": 0})
            assert await receiver.until("shout") == {"i": 0}

            redis.stop(signal.SIGKILL)
            for i in range(1, 4):  # a socket of the same process gets it all the same
                await sender.push("room:redis", "shout", {"i": i})
                assert await sender.until("shout") is not None
            assert (await sender.join("room:new while down"))[0] == "ok"

            stack.enter_context(servers.redis(tmp_path, port))
            arriving = asyncio.create_task(receiver.until("back"))
            while not arriving.done():  # until the link is up again
                tell = {"topic": "room:redis", "event": "back", "payload": {}}
                await sender.push("room:redis", "tell", tell)
                await asyncio.wait({arriving}, timeout=0.2)
            # what was joined meanwhile is connected as well
            await receiver.join("room:new while down")
            arriving = asyncio.create_task(sender.until("shout", "room:new while down"))
            while not arriving.done():
                await receiver.push("room:new while down", "shout", {"late": True})
                await asyncio.wait({arriving}, timeout=0.2)
        # said once an outage, or when one of the few connections of the pool turns out to be stale; not
        # once a message
        assert 1 <= one.logged().count("the channel layer fails") <= 6
        assert "the channel layer works again" in one.logged()


LOOK = """
import json, time
from phx_protocol.introspection import *
end = time.monotonic() + 30
def is_there():  # and what the tests before had is gone
    topics = {t.topic: t.subscribers for t in list_topics()}
    return topics == {"presence:look": 2, "room:look": 1} and all(n.sockets == 1 for n in list_nodes())
while not is_there() and time.monotonic() < end:
    time.sleep(0.1)
print(json.dumps({
    "nodes": sorted(n.sockets for n in list_nodes()),
    "topics": {t.topic: [t.subscribers, len(t.nodes)] for t in list_topics()},
    "sockets": sorted(s.name for s in list_sockets(topic="presence:look")),
    "of one": [s.topics for s in list_sockets() if s.name == "users:a"],
    "presences": sorted(list_presences("presence:look")),
}))
"""


@ONE_LAYER
async def test_another_process_sees_nodes_topics_sockets_and_presences(
    two: Two, layer: dict[str, str]
) -> None:
    one, other = two
    async with Client(one.url, user_id="a") as a, Client(other.url, user_id="b") as b:
        for client in (a, b):
            await client.join("presence:look")
        await a.join("room:look")
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.conformance.settings"}
        process = await servers.start_async(
            *(sys.executable, "-m", "django", "shell", "-v", "0", "-c", LOOK),
            env={**env, **layer},
            cwd=servers.ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert json.loads(output.splitlines()[-1]) == {
            "nodes": [1, 1],  # who only looks is none
            "topics": {"presence:look": [2, 2], "room:look": [1, 1]},
            "sockets": ["users:a", "users:b"],
            "of one": [["presence:look", "room:look"]],
            "presences": ["a", "b"],
        }


# the last one: the process that it kills is on lease for a while
@ONE_LAYER
async def test_a_killed_process_leaves_nothing_that_hurts_the_rest(
    layer: dict[str, str], tmp_path: Path
) -> None:
    with two_on(layer, tmp_path) as (one, other):
        async with joined("room:killed", one, other) as (sender, victim):
            other.stop(signal.SIGKILL)
            assert await victim.closed() == 1006
            for i in range(20):
                await sender.push("room:killed", "shout", {"i": i})
                assert (await sender.until("shout"))["i"] == i
