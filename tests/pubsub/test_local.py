"""Processes whose layer is in memory, beside each other on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from phx_protocol.pubsub.local import ALONE, APART, HALF
from tests.support import servers
from tests.support.commands import SETTINGS, Two, on_bus, run
from tests.support.poll_client import RawSession, messages
from tests.support.ws_client import TIMEOUT, Client


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Two servers of different makes."""
    folder = tmp_path_factory.mktemp("bus")
    with (
        on_bus() as env,
        servers.serve("frames", folder / "one", **env) as one,
        servers.serve("daphne", folder / "other", **env) as other,
    ):
        yield Two(one, other, env)


async def test_a_broadcast_reaches_the_clients_of_all_processes(mixed: Two) -> None:
    async with Client(mixed.one.url) as ada, Client(mixed.other.url) as bob:
        for client in (ada, bob):
            await client.join("room:1")
        for client in (ada, bob):
            await client.push("room:1", "shout", {"by": "one of both"})
            assert await ada.until("shout") == {"by": "one of both"}
            assert await bob.until("shout") == {"by": "one of both"}
        assert (await run(mixed, "phx_broadcast", "room:1", "shout", '{"n": 1}'))[
            0
        ] == 0
        assert await ada.until("shout") == await bob.until("shout") == {"n": 1}


async def test_a_shell_broadcasts_and_disconnects(mixed: Two) -> None:
    async with (
        Client(mixed.one.url, user_id="ada") as ada,
        Client(mixed.other.url, user_id="ada") as also_ada,
    ):
        for client in (ada, also_ada):
            await client.join("room:1")
        code = (
            "import django; django.setup()\n"
            "from phx_protocol import broadcast, disconnect\n"
            "[broadcast('room:1', 'shout', {'n': n}) for n in range(20)]\n"
            "disconnect('users:ada')"
        )
        env = {**mixed.env, "DJANGO_SETTINGS_MODULE": SETTINGS}
        shell = await asyncio.to_thread(servers.python, code, env)
        assert (shell.returncode, shell.stderr) == (0, "")
        for client in (ada, also_ada):
            assert [(await client.until("shout"))["n"] for _ in range(20)] == list(
                range(20)
            )
            assert await client.closed() == 1001


async def test_a_worker_answers_an_event_of_a_client(mixed: Two) -> None:
    async with Client(mixed.one.url) as client:
        await client.join("room:1")
        ref = await client.push("room:1", "ref", {})
        found = await client.until("ref")
        code = (
            "import asyncio, django; django.setup()\n"
            "from phx_protocol import ReplyRef, reply\n"
            f"asyncio.run(reply(ReplyRef(**{found!r}), 'ok', {{'from': 'a worker'}}))"
        )
        env = {**mixed.env, "DJANGO_SETTINGS_MODULE": SETTINGS}
        worker = await asyncio.to_thread(servers.python, code, env)
        assert (worker.returncode, worker.stderr) == (0, "")
        assert await client.reply(ref) == ("ok", {"from": "a worker"})


async def test_a_client_that_polls_may_reach_either_process(mixed: Two) -> None:
    session = RawSession("/socket")
    await session.open(mixed.one.port)
    await session.send(mixed.other.port, ["1", "1", "room:1", "phx_join", {}])
    reply, *_ = messages(await session.poll(mixed.other.port))
    assert reply[3] == "phx_reply"
    await session.send(mixed.other.port, ["1", "2", "room:1", "echo", {"n": 1}])
    found = messages(await session.poll(mixed.one.port))
    assert found[-1][4] == {"status": "ok", "response": {"n": 1}}


async def test_a_server_that_has_no_client_yet_is_there(tmp_path: Path) -> None:
    with on_bus() as env:
        with servers.serve("uvicorn", tmp_path / "log", **env) as server:
            two = Two(server, server, env)
            status, out, err = await run(two, "phx_topics")
            assert (status, out, err) == (0, "No topic is joined.\n", "")
        status, _, err = await run(two, "phx_topics")
        assert status == 1
        assert "no server of this project is found on this machine" in err


async def test_each_worker_of_a_server_hears_the_others(tmp_path: Path) -> None:
    port = servers.free_port()
    command = [*servers.command("uvicorn", port), "--workers", "2"]
    log = tmp_path / "log"
    with on_bus() as env, servers.run(command, port, log, **env) as server:
        async with contextlib.AsyncExitStack() as stack:
            two = Two(server, server, env)
            clients: list[Client] = []
            async with asyncio.timeout(2 * TIMEOUT):
                while len(await nodes_with_sockets(two)) < 2:
                    # at once: one after the other may all reach the same worker
                    more = [Client(server.url) for _ in range(20)]
                    entering = map(stack.enter_async_context, more)
                    clients += await asyncio.gather(*entering)
            await asyncio.gather(*(client.join("room:1") for client in clients))
            await clients[0].push("room:1", "shout", {"n": 1})
            for client in clients:
                assert await client.until("shout") == {"n": 1}


async def nodes_with_sockets(two: Two) -> set[str]:
    _, out, _ = await run(two, "phx_sockets")
    return set(re.findall(r"^(\w+)\.\d+ ", out, re.MULTILINE))


@pytest.mark.parametrize("bus, effect", [("", APART), ("1", HALF)])
async def test_processes_that_serve_without_redis_say_so_once(
    tmp_path: Path, bus: str, effect: str
) -> None:
    with (
        on_bus() as both,
        servers.serve(
            "uvicorn", tmp_path / "one", **{**both, "PHX_LOCAL_BUS": bus}
        ) as one,
        servers.serve(
            "uvicorn", tmp_path / "other", **{**both, "PHX_LOCAL_BUS": bus}
        ) as other,
    ):
        async with Client(one.url), Client(other.url):
            async with asyncio.timeout(2 * TIMEOUT):
                while not all(effect in server.logged() for server in (one, other)):
                    await asyncio.sleep(0.1)
    for server in (one, other):
        assert server.logged().count(ALONE + effect) == 1


async def test_under_a_test_runner_nothing_is_opened(tmp_path: Path) -> None:
    with on_bus() as bus:
        env = {**bus, "PYTEST_CURRENT_TEST": "test_it"}
        with servers.serve("uvicorn", tmp_path / "log", **env) as server:
            async with Client(server.url) as client:
                await client.join("room:1")
                assert not Path(env["XDG_RUNTIME_DIR"], "phx_protocol").exists()
                status, _, err = await run(Two(server, server, env), "phx_topics")
                assert status == 1 and "is in memory" in err


async def test_a_broadcast_of_a_neighbour_is_delivered_though_its_topic_has_a_history(
    tmp_path: Path,
) -> None:
    """Each process has histories of its own: an offset of another one says nothing here."""
    history = {"DJANGO_SETTINGS_MODULE": "tests.integration.history_settings"}
    application = "tests.integration.history_app:application"
    with on_bus() as bus:
        env = {**bus, **history}
        with (
            servers.serve("uvicorn", tmp_path / "one", application, **env) as one,
            servers.serve("uvicorn", tmp_path / "other", application, **env) as other,
        ):
            async with Client(one.url) as ada, Client(other.url) as bob:
                for client in (ada, bob):
                    await client.join("kept:1")
                for n in range(3):
                    await ada.push("kept:1", "say", {"i": n})
                    await bob.push("kept:1", "say", {"i": n})
                for client in (ada, bob):
                    found = [(await client.until("msg"))["i"] for _ in range(6)]
                    assert sorted(found) == [0, 0, 1, 1, 2, 2]
        assert "did not keep it" not in one.logged() + other.logged()
