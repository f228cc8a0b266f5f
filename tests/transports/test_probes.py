"""What a probe is told of a process."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import AsyncClient, override_settings
from django.urls import path

from phx_protocol import health
from phx_protocol.asgi import get_phoenix_application
from phx_protocol.node.node import get_node
from tests.support import servers
from tests.support.sites import MOUNTS, page
from tests.support.ws_client import TIMEOUT, Client

APPLICATION = "tests.integration.health_app:application"
DEPLOY = (servers.ROOT / "docs/deploy.md").read_text()

urlpatterns = [path("live", health.live), path("ready", health.ready)]


async def asked(
    path: str, method: str = "GET", at: str = "/healthz", root_path: str = ""
) -> tuple[int, str]:
    """The status and the text of the answer; Django, behind it, says 200 and the path."""
    application = get_phoenix_application(MOUNTS, http=page, health=at)
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [],
    }
    request = ApplicationCommunicator(application, scope)
    await request.send_input({"type": "http.request"})
    start = await request.receive_output()
    body = (await request.receive_output())["body"]
    return start["status"], body.decode()


@pytest.mark.parametrize("at", ["/healthz", "healthz", "/healthz/"])
async def test_a_process_lives_and_is_ready(at: str) -> None:
    for probe in ("", "/", "/live", "/ready", "/ready?layer&state", "/ready?other=1"):
        assert await asked(f"/healthz{probe}", at=at) == (200, "ok")


@pytest.mark.parametrize("path", ["/app/healthz", "/healthz", "/app/healthz/ready"])
async def test_below_a_root_path_the_prefix_may_be_there_or_not(path: str) -> None:
    assert await asked(path, root_path="/app") == (200, "ok")


async def test_all_other_paths_are_djangos() -> None:
    for other in ("/", "/healthzz", "/healthz/other", "/x/healthz", "/healthz/ready/"):
        assert await asked(other) == (200, other)


async def test_a_probe_reads() -> None:
    assert await asked("/healthz", "HEAD") == (200, "")
    for method in ("POST", "DELETE", "OPTIONS"):
        assert (await asked("/healthz", method))[0] == 405


async def test_a_process_that_drains_lives_but_is_not_ready() -> None:
    drainer = get_node().drainer
    await drainer.run()
    try:
        assert await asked("/healthz/ready") == (503, "draining")
        assert await asked("/healthz") == (200, "ok")
    finally:
        drainer.resume()
    assert await asked("/healthz/ready") == (200, "ok")


@override_settings(ROOT_URLCONF="tests.transports.test_probes", ALLOWED_HOSTS=["*"])
async def test_both_are_views_too() -> None:
    client = AsyncClient()
    assert (await client.get("/live")).content == b"ok"
    answer = await client.get("/ready?state")
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    drainer = get_node().drainer
    await drainer.run()
    try:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.content) == (503, b"draining")
    finally:
        drainer.resume()


async def test_a_redis_that_goes_and_comes_is_noticed_without_a_client(
    tmp_path: Path,
) -> None:
    with servers.redis(tmp_path) as redis:
        env = {"PHX_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
        env["PHX_LAYER"] = "redis"
        log = tmp_path / "log"
        with servers.serve("uvicorn", log, APPLICATION, **env) as server:
            async with httpx.AsyncClient(
                base_url=f"http://{server.address}", trust_env=False, timeout=TIMEOUT
            ) as http:

                async def until(path: str, status: int) -> str:
                    async with asyncio.timeout(TIMEOUT):
                        while (answer := await http.get(path)).status_code != status:
                            await asyncio.sleep(0.05)
                    return answer.text

                # a probe's Host is an address, which Django would refuse
                foreign = await http.get("/healthz/ready", headers={"host": "10.0.0.1"})
                assert foreign.status_code == 200
                assert await until("/healthz/ready?layer&state", 200) == "ok"
                redis.stop()
                assert "away" in await until("/healthz/ready?state", 503)
                assert "channel layer" in await until("/healthz/ready?layer", 503)
                assert await until("/healthz", 200) == "ok"
                assert await until("/healthz/ready", 200) == "ok"
                with servers.redis(tmp_path, redis.port):
                    assert await until("/healthz/ready?layer&state", 200) == "ok"


DRAIN = """
import django
django.setup()
from django.core.management import call_command
call_command("phx_drain", "{}")
"""


async def test_haproxy_asks_and_sends_nobody_to_a_process_that_drains(
    tmp_path: Path, redis_url: str
) -> None:
    asks = re.search(r"HAProxy does\s+\(`(option httpchk .+?)`\)", DEPLOY)
    assert asks is not None
    env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
    env["DJANGO_SETTINGS_MODULE"] = "tests.conformance.settings"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                servers.serve("frames", tmp_path / f"{n}.log", APPLICATION, **env)
            )
            for n in range(2)
        ]
        often = "check inter 100 fall 1 rise 1"
        haproxy = servers.haproxy(tmp_path, *processes, backend=asks[1], server=often)
        proxy = stack.enter_context(haproxy)

        async def upstream() -> str:
            async with Client(proxy.url) as client:
                assert client.ws.response is not None
                return client.ws.response.headers["x-upstream"]

        assert {await upstream() for _ in range(4)} == {p.address for p in processes}
        going, staying = processes
        async with Client(going.url):  # so that the command finds the process
            code = DRAIN.format(going.process.pid)
            drained = await asyncio.to_thread(servers.python, code, env)
            assert drained.returncode == 0, drained.stderr
            async with asyncio.timeout(TIMEOUT):
                while f"{going.port} is DOWN" not in proxy.logged():
                    await asyncio.sleep(0.05)
            assert "Layer7 wrong status, code: 503" in proxy.logged()
            assert {await upstream() for _ in range(4)} == {staying.address}
