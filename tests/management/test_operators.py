"""The operator's commands, run as a user would: two processes on Redis, and another one that looks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from tests.support import servers
from tests.support.commands import SETTINGS, Command, Two, run, table, two
from tests.support.ws_client import TIMEOUT, Client

__all__ = ["two"]


async def listed_by(two: Two, *args: str) -> list[dict[str, object]]:
    status, out, err = await run(two, *args, "--json")
    assert status == 0, err
    return list(json.loads(out))


async def until_topics(two: Two, wanted: dict[str, int]) -> None:
    """Counts are at most a second old."""
    async with asyncio.timeout(TIMEOUT):
        while wanted != {
            str(t["topic"]): t["subscribers"]
            for t in await listed_by(two, "phx_topics")
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
        (room,) = await listed_by(two, "phx_topics", "room:*")
        assert (room["subscribers"], len(dict(room["nodes"]))) == (2, 2)  # type: ignore[call-overload]
        heads, *rows = await table(two, "phx_sockets", "--topic", "presence:1")
        assert heads[:3] == ["SOCKET", "NAME", "USER"]
        (row,) = rows
        assert row[1] == "users:ada"
        assert row[4] == "websocket"
        assert row[-1] == "room:1 presence:1"
        sockets = await listed_by(two, "phx_sockets")
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
    watching = await Command.start(two.env, "phx_topics", "--watch", "0.1", "--json")
    async with asyncio.timeout(TIMEOUT):
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
        sockets = await listed_by(two, "phx_sockets")
        (bob,) = (s for s in sockets if s["name"] == "users:bob")
        done = await run(two, "phx_disconnect", str(bob["id"]))
        assert done == (0, "1 socket disconnected.\n", "")
        assert await third.closed() == 1001
        done = await run(two, "phx_disconnect", "users:ada")
        assert done == (0, "2 sockets disconnected.\n", "")
        assert await first.closed() == await second.closed() == 1001
    status, _, err = await run(two, "phx_disconnect", "users:ada")
    assert (status, err) == (1, "CommandError: there is no socket named 'users:ada'\n")


async def test_with_a_layer_in_memory_a_command_says_that_it_sees_nothing() -> None:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS}
    env.pop("PHX_REDIS_URL", None)
    for command in ("phx_topics", "phx_sockets", "phx_nodes"):
        process = await servers.start_async(
            *(sys.executable, "-m", "django", command),
            env=env,
            cwd=servers.ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert process.returncode == 1
        assert b"is in memory: this process sees nothing" in err
