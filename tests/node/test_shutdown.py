"""A process that gets a signal to end drains its sockets first, whatever server it has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidMessage, InvalidStatus

from tests.node.drained import command, ended
from tests.support import servers
from tests.support.ws_client import TIMEOUT, Client

ROUNDS = {"BATCH_SIZE": 8, "BATCH_INTERVAL": 0.5}


def run(
    server: str, tmp_path: Path, **drainer: float
) -> contextlib.AbstractContextManager[servers.Server]:
    port = servers.free_port()
    log = tmp_path / "log"
    env = {"PHX_DRAINER": json.dumps(drainer)} if drainer else {}
    return servers.run(command(server, port), port, log, **env)


async def until_logged(server: servers.Server, text: str) -> None:
    async with asyncio.timeout(TIMEOUT):
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
        pytest.param("uvicorn", signal.SIGINT, marks=pytest.mark.big),
        ("gunicorn", signal.SIGTERM),
        ("daphne", signal.SIGTERM),
        pytest.param("daphne", signal.SIGINT, marks=pytest.mark.big),
    ],
)
async def test_a_process_that_gets_a_signal_drains_its_sockets(
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
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
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


@pytest.mark.parametrize(
    "server", ["uvicorn", pytest.param("daphne", marks=pytest.mark.big)]
)
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


@pytest.mark.parametrize(
    "server", ["uvicorn", pytest.param("daphne", marks=pytest.mark.big)]
)
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


# ----------------------------------------------------- servers that reload code

RELOADABLE = """
from pathlib import Path
from django.utils.autoreload import file_changed
from tests.integration.drain_settings import *

INSTALLED_APPS = ["daphne", *INSTALLED_APPS]  # for runserver

DJANGO = "django.template.backends.django.DjangoTemplates"
TEMPLATES = [{"BACKEND": DJANGO, "DIRS": [Path(__file__).parent / "templates"]}]
file_changed.connect(lambda file_path, **_: print("CHANGED", file_path.name), weak=False)
"""


@contextlib.contextmanager
def reloading(server: str, folder: Path) -> Iterator[servers.Server]:
    """A server that starts again when a file in `folder` changes."""
    (folder / "reload_settings.py").write_text(RELOADABLE)
    (folder / "templates").mkdir()
    (folder / "templates" / "page.html").write_text("one")
    port = servers.free_port()
    if server == "runserver":
        args = [sys.executable, "-m", "django", "runserver", f"127.0.0.1:{port}"]
    else:
        args = [*command(server, port), "--reload", "--reload-dir", str(folder)]
    path = f"{folder}:{servers.ROOT}"
    env = {"DJANGO_SETTINGS_MODULE": "reload_settings", "PYTHONPATH": path}
    with servers.run(
        args, port, folder / "log", **env, PYTHONUNBUFFERED="1"
    ) as running:
        yield running


async def until_back(url: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        while True:
            with contextlib.suppress(OSError, InvalidMessage, InvalidStatus):
                async with Client(url) as client:
                    assert (await client.join("busy:1"))[0] == "ok"
                    return


async def changed(file: Path, until: Callable[[], bool]) -> None:
    """Change `file` until that is seen: a change before its first look a server does not see."""
    async with asyncio.timeout(TIMEOUT):
        while not until():
            file.write_text(file.read_text() + "\n")
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("server", ["runserver", "uvicorn"])
async def test_a_server_that_reloads_code_sends_its_pages_away(
    server: str, tmp_path: Path
) -> None:
    with reloading(server, tmp_path) as running:
        async with Client(running.url) as client:
            assert (await client.join("busy:1"))[0] == "ok"
            await client.push("busy:1", "work", {"seconds": 1000})
            await client.until("working")
            assert (await client.join("sync:1"))[0] == "ok"
            closed = asyncio.create_task(client.closed())
            await changed(tmp_path / "reload_settings.py", closed.done)
            assert closed.result() == 1012
        await until_back(running.url)
        assert "TERMINATED IN A THREAD draining" in running.logged()
        assert "Traceback" not in running.logged()


async def test_a_change_that_reloads_nothing_closes_nothing(tmp_path: Path) -> None:
    with reloading("runserver", tmp_path) as running:
        async with Client(running.url) as client:
            assert (await client.join("busy:1"))[0] == "ok"
            page = tmp_path / "templates" / "page.html"
            await changed(page, lambda: "CHANGED page.html" in running.logged())
            assert (await client.join("sync:1"))[0] == "ok"
            os.killpg(running.process.pid, signal.SIGINT)  # as Ctrl-C does
            assert await client.closed() == 1012
        assert "Traceback" not in running.logged()
