"""Large broadcasts on a real Redis, which ends the connection of a subscriber that cannot follow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support import servers
from tests.support.ws_client import Client

#: how the log says that Redis ended the connection of this process
LOST = "the channel layer fails"
SENDER = """
import asyncio, os, django
django.setup()
from phx_protocol import abroadcast
async def main():
    text = "x" * {size}
    for start in range(0, {count}, 30):
        calls = []
        for n in range(start, start + 30):
            calls.append(abroadcast("room:large", "large", {{"n": n, "text": text}}))
            calls.append(abroadcast("room:small", "small", {{"n": n}}))
        await asyncio.gather(*calls)
asyncio.run(main())
"""


def send(count: int, size: int, env: dict[str, str]) -> subprocess.Popen[str]:
    """A worker that broadcasts, and has no sockets."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.conformance.settings"}
    return servers.start(
        [sys.executable, "-c", SENDER.format(count=count, size=size)],
        env={**os.environ, **settings, **env},
        cwd=servers.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[servers.Server]:
    with servers.redis(tmp_path) as redis:
        yield redis


@pytest.mark.big
async def test_a_worker_waits_until_what_it_sent_has_arrived(
    own_redis: servers.Server, tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{own_redis.port}/0"
    env = {"PHX_REDIS_URL": url}
    count = 120
    with servers.serve("uvicorn", tmp_path / "log", **env) as server:
        async with Client(server.url) as large, Client(server.url) as small:
            await large.join("room:large")
            await small.join("room:small")
            sender = send(count, 1_000_000, env)
            got = [await small.until("small") for _ in range(count)]
            assert [payload["n"] for payload in got] == list(range(count))
            for n in range(count):
                assert (await large.until("large"))["n"] == n
            output, _ = await asyncio.to_thread(sender.communicate, timeout=20)
            assert sender.returncode == 0, output
        assert LOST not in server.logged()


@pytest.mark.big
async def test_a_redis_that_keeps_little_for_a_subscriber_loses_nothing_in_silence(
    own_redis: servers.Server, tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{own_redis.port}/0"
    with Redis.from_url(url) as redis:
        redis.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    env = {"PHX_REDIS_URL": url}
    with servers.serve("uvicorn", tmp_path / "log", **env) as server:
        async with Client(server.url) as client:
            await client.join("room:small")
            await client.join("room:large")
            sender = send(30, 4_000_000, env)
            await asyncio.to_thread(sender.communicate, timeout=60)
            async with asyncio.timeout(20):
                while LOST not in server.logged():
                    await asyncio.sleep(0.1)
            sender = send(30, 100, env)
            await client.until("large")
            await asyncio.to_thread(sender.communicate, timeout=60)
            assert sender.returncode == 0
            assert "the channel layer works again" in server.logged()
