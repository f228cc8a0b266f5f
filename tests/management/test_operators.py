"""The operator's commands, run as a user would: two processes on Redis, and another one that looks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support import servers
from tests.support.ws_client import PATIENCE, Client

SETTINGS = "tests.conformance.settings"


class Two(NamedTuple):
    one: servers.Server
    other: servers.Server
    redis_url: str


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Two]:
    tmp_path = tmp_path_factory.mktemp("operators")
    env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "pubsub"}
    with (
        servers.serve("uvicorn", tmp_path / "one", **env) as one,
        servers.serve("uvicorn", tmp_path / "other", **env) as other,
    ):
        yield Two(one, other, redis_url)


class Command:
    """``python -m django <arguments>`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, redis_url: str, *args: str) -> Command:
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "PHX_LAYER": "pubsub"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "django", *args, "--no-color"),
            env={**env, "PHX_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"},
            cwd=servers.ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (
            await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        ).decode()

    async def until_ready(self) -> None:
        """Until it has said on stderr what it does."""
        assert self.process.stderr is not None
        await asyncio.wait_for(self.process.stderr.readline(), PATIENCE)

    async def ended(self, typed: str = "") -> tuple[int, str, str]:
        """Its status, its output, and its errors."""
        out, err = await asyncio.wait_for(
            self.process.communicate(typed.encode()), PATIENCE
        )
        return self.process.returncode or 0, out.decode(), err.decode()


async def run(two: Two, *args: str, typed: str = "") -> tuple[int, str, str]:
    return await (await Command.start(two.redis_url, *args)).ended(typed)


async def table(two: Two, *args: str) -> list[list[str]]:
    """The cells of what a command lists, its heads first."""
    status, out, err = await run(two, *args)
    assert status == 0, err
    return [re.split(r"  +", line.strip()) for line in out.splitlines()]


async def told(two: Two, *args: str) -> list[dict[str, object]]:
    status, out, err = await run(two, *args, "--json")
    assert status == 0, err
    return list(json.loads(out))


async def until_topics(two: Two, wanted: dict[str, int]) -> None:
    """Counts are at most a second old."""
    async with asyncio.timeout(PATIENCE):
        while wanted != {
            str(t["topic"]): t["subscribers"] for t in await told(two, "phx_topics")
        }:
            pass


async def test_topics_and_sockets_of_both_processes_are_listed(two: Two) -> None:
    one, other, _ = two
    async with Client(one.url, user_id="ada") as ada, Client(other.url) as bob:
        await ada.join("room:1")
        await bob.join("room:1")
        await ada.join("presence:1")
        await until_topics(two, {"room:1": 2, "presence:1": 1})
        heads, *rows = await table(two, "phx_topics")
        assert heads == ["TOPIC", "SUBSCRIBERS", "PRESENCES", "MESSAGES/S", "CHANNEL"]
        cells = {row[0]: row[1:] for row in rows}
        assert set(cells) == {"presence:1", "room:1"}
        assert cells["presence:1"][:2] == ["1", "1"]
        assert cells["room:1"][:2] == ["2", "0"]
        assert cells["room:1"][3] == "tests.conformance.channels.RoomChannel"
        (room,) = await told(two, "phx_topics", "room:*")
        assert (room["subscribers"], len(dict(room["nodes"]))) == (2, 2)  # type: ignore[call-overload]
        heads, *rows = await table(two, "phx_sockets", "--topic", "presence:1")
        assert heads[:3] == ["SOCKET", "NAME", "USER"]
        (row,) = rows
        assert row[1] == "users:ada"
        assert row[4] == "websocket"
        assert row[-1] == "room:1 presence:1"
        sockets = await told(two, "phx_sockets")
        assert sorted(str(s["name"]) for s in sockets) == ["None", "users:ada"]
        heads, *rows = await table(two, "phx_nodes")
        assert {(row[2], row[-1]) for row in rows} == {
            (str(one.process.pid), "serving"),
            (str(other.process.pid), "serving"),
        }


async def test_nothing_to_list_is_said(two: Two) -> None:
    await until_topics(two, {})
    assert (await run(two, "phx_topics"))[1] == "No topic is joined.\n"
    assert (await run(two, "phx_sockets"))[1] == "No socket is open.\n"


async def test_topics_are_watched_until_ctrl_c(two: Two) -> None:
    watching = await Command.start(
        two.redis_url, "phx_topics", "--watch", "0.1", "--json"
    )
    async with asyncio.timeout(PATIENCE):
        while json.loads(await watching.line()):  # of a test before this one
            pass
    async with Client(two.one.url) as client:
        await client.join("room:new")
        while not (topics := json.loads(await watching.line())):
            pass
        assert topics[0]["topic"] == "room:new"
    watching.process.send_signal(signal.SIGINT)
    status, _, err = await watching.ended()
    assert (status, err) == (0, "")


async def test_one_socket_is_disconnected_by_its_id_and_several_by_their_name(
    two: Two,
) -> None:
    async with (
        Client(two.one.url, user_id="ada") as first,
        Client(two.other.url, user_id="ada") as second,
        Client(two.other.url, user_id="bob") as third,
    ):
        for client in (first, second, third):
            await client.join("room:1")
        sockets = await told(two, "phx_sockets")
        (bob,) = (s for s in sockets if s["name"] == "users:bob")
        done = await run(two, "phx_disconnect", str(bob["id"]))
        assert done == (0, "1 socket disconnected.\n", "")
        assert await third.closed() == 1001
        done = await run(two, "phx_disconnect", "users:ada")
        assert done == (0, "2 sockets disconnected.\n", "")
        assert await first.closed() == await second.closed() == 1001
    status, _, err = await run(two, "phx_disconnect", "users:ada")
    assert (status, err) == (1, "CommandError: there is no socket named 'users:ada'\n")


async def test_a_topic_is_listened_to(two: Two) -> None:
    listening = await Command.start(two.redis_url, "phx_listen", "room:1")
    await listening.until_ready()
    as_json = await Command.start(
        *(two.redis_url, "phx_listen", "room:1", "room:2"),
        *("--json", "--count", "2", "--event", "shout", "--verbosity", "2"),
    )
    async with Client(two.one.url) as client:
        await client.join("room:1")
        printed = asyncio.create_task(as_json.ended())
        while not printed.done():  # the second says nothing when it is ready
            await client.push("room:1", "shout", {"body": "hi\x1b[2J"})
            await asyncio.wait({printed}, timeout=0.1)
        line = await listening.line()
        assert re.fullmatch(
            r'\d\d:\d\d:\d\d room:1 shout {"body": "hi\\u001b\[2J"}\n', line
        )
    status, out, _ = printed.result()
    assert status == 0
    first, second = map(json.loads, out.splitlines())
    assert (first["topic"], first["event"]) == ("room:1", "shout")
    assert first["payload"] == {"body": "hi\x1b[2J"}
    listening.process.send_signal(signal.SIGINT)
    assert (await listening.ended())[0] == 0


async def test_a_process_is_drained_and_takes_up_again(two: Two) -> None:
    one, other, _ = two
    pid = str(one.process.pid)
    async with Client(one.url) as first, Client(other.url) as second:
        await first.join("room:1")
        await second.join("room:1")
        status, out, err = await run(two, "phx_drain", pid)
        assert (status, err) == (0, "")
        assert re.fullmatch(r"\w+ \(.+:%s\) drained of 1 sockets\.\n" % pid, out)
        assert await first.closed() == 1012
        assert (await second.ask("room:1", "echo", {"a": 1}))[0] == "ok"
        rows = (await table(two, "phx_nodes"))[1:]
        assert {row[2]: row[-1] for row in rows}[pid] == "draining"
        with pytest.raises(Exception, match="503"):
            async with Client(one.url):
                pass
        status, out, err = await run(two, "phx_drain", pid, "--resume")
        assert (status, err) == (0, "") and "takes connections again" in out
        async with Client(one.url) as again:
            await again.join("room:1")


async def test_all_processes_are_drained_only_when_that_is_meant(two: Two) -> None:
    async with Client(two.one.url) as first, Client(two.other.url) as second:
        for client in (first, second):
            await client.join("room:1")
        status, out, err = await run(two, "phx_drain", typed="n\n")
        assert (status, err) == (1, "CommandError: nothing was drained\n")
        assert out.startswith("Drain all 2 processes?")
        assert (await first.ask("room:1", "echo", {}))[0] == "ok"
        status, out, err = await run(two, "phx_drain", "--no-input")
        assert (status, out.count("drained of 1 sockets")) == (0, 2)
        assert await first.closed() == await second.closed() == 1012
        assert (await run(two, "phx_drain", "--resume"))[0] == 0


async def test_a_node_that_is_not_there_is_an_error(two: Two) -> None:
    status, _, err = await run(two, "phx_drain", "nowhere")
    assert status == 1
    assert err == "CommandError: there is no node nowhere; phx_nodes lists them\n"


async def test_with_a_layer_in_memory_a_command_says_that_it_sees_nothing() -> None:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS}
    env.pop("PHX_REDIS_URL", None)
    for command in ("phx_topics", "phx_sockets", "phx_nodes"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "django", command),
            env=env,
            cwd=servers.ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert process.returncode == 1
        assert b"is in memory: this process sees nothing" in err
