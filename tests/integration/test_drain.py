"""A process that goes down: its clients are sent away first, whatever server it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests import servers
from tests.client import PATIENCE, Client

APPLICATION = "tests.integration.drain_app:application"
ROUNDS = {"BATCH_SIZE": 8, "BATCH_INTERVAL": 0.5}


def command(server: str, port: int) -> list[str]:
    if server != "gunicorn":
        return servers.command(server, port, APPLICATION)
    worker = ["-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "gunicorn", *worker, APPLICATION]


def run(
    server: str, tmp_path: Path, **drainer: float
) -> AbstractContextManager[servers.Server]:
    port = servers.free_port()
    log = tmp_path / "log"
    env = {"PHX_DRAINER": json.dumps(drainer)} if drainer else {}
    return servers.run(command(server, port), port, log, **env)


async def ended(server: servers.Server) -> int:
    """The exit status of the process."""
    return await asyncio.wait_for(asyncio.to_thread(server.process.wait), PATIENCE)


async def until_logged(server: servers.Server, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while text not in server.logged():
            await asyncio.sleep(0.02)


async def polling(http: httpx.AsyncClient, url: str) -> asyncio.Task[httpx.Response]:
    """A poll that has reached the server."""
    sent = asyncio.Event()

    async def trace(name: str, info: object) -> None:
        if name == "http11.send_request_body.complete":
            sent.set()

    poll = asyncio.create_task(http.get(url, extensions={"trace": trace}))
    await sent.wait()
    await http.options(url)  # answered behind it
    return poll


@pytest.mark.parametrize(
    ("server", "how"),
    [
        ("uvicorn", signal.SIGTERM),
        ("uvicorn", signal.SIGINT),
        ("gunicorn", signal.SIGTERM),
        ("daphne", signal.SIGTERM),
        ("daphne", signal.SIGINT),
    ],
)
async def test_a_process_that_is_told_to_end_drains_its_sockets(
    server: str, how: signal.Signals, tmp_path: Path
) -> None:
    with run(server, tmp_path, **ROUNDS) as running:
        clients = [Client(running.url) for _ in range(20)]
        for client in clients:
            await client.__aenter__()
        for client in clients[:10]:  # the others have no channel
            assert (await client.join("busy:1"))[0] == "ok"
        await clients[0].push("busy:1", "work", {"seconds": 1.5})
        await clients[0].until("working")
        url = f"http://{running.address}/socket/longpoll?vsn=2.0.0"
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
            token = (await http.get(url)).json()["token"]
            poll = await polling(http, f"{url}&token={token}")
            os.kill(running.process.pid, how)
            await until_logged(running, "DRAINING 8 of 21 sockets")
            with pytest.raises(InvalidStatus) as refused:
                async with Client(running.url):
                    pass
            # Daphne does not let an application answer an upgrade
            status = refused.value.response.status_code
            assert status == (403 if server == "daphne" else 503)
            answer = await http.get(url)
            assert answer.status_code == 503
            assert answer.json() == {"status": 500, "reason": "draining"}
            assert (await poll).json()["status"] == 410
        codes = await asyncio.gather(*(client.closed() for client in clients))
        assert Counter(codes) == {1012: 20}
        status = await ended(running)
        assert status in (0, -how)  # uvicorn ends by the signal itself
        log = running.logged()
        assert log.index("DRAINING 16 of 21") < log.index("DRAINING 21 of 21")
        # what ran was let run, what it held was let go
        assert log.count("WORK DONE") == 1
        assert log.count("TERMINATED draining") == 10
        assert "Traceback" not in log


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
async def test_a_second_signal_goes_straight_to_the_server(
    server: str, tmp_path: Path
) -> None:
    never = {"BATCH_SIZE": 1, "BATCH_INTERVAL": 1000, "SHUTDOWN": 100_000}
    with run(server, tmp_path, **never) as running:
        async with Client(running.url) as one, Client(running.url) as two:
            os.kill(running.process.pid, signal.SIGTERM)
            await until_logged(running, "DRAINING 1 of 2")
            os.kill(running.process.pid, signal.SIGTERM)
            await asyncio.gather(one.closed(), two.closed())
            await ended(running)


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
async def test_without_a_drainer_the_server_goes_its_own_way(
    server: str, tmp_path: Path
) -> None:
    port = servers.free_port()
    args = command(server, port)
    with servers.run(args, port, tmp_path / "log", PHX_DRAINER="false") as running:
        async with Client(running.url) as client:
            os.kill(running.process.pid, signal.SIGTERM)
            assert await client.closed() in (1006, 1012)
            await ended(running)
        assert "DRAINING" not in running.logged()
