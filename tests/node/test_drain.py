"""A process that is drained: its clients go elsewhere, and miss nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.node.drained import command, ended
from tests.support import servers
from tests.support.ws_client import TIMEOUT, Client

SETTINGS = "tests.integration.drain_settings"


WEBSOCKET = """
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_next_upstream error timeout http_503;
"""
NGINX = {
    "location": WEBSOCKET,
    "http": "map $http_upgrade $connection_upgrade { default upgrade; '' close; }",
    # else a process that was restarted is not asked again for ten seconds
    "server": "max_fails=0",
}
PUBLISHER = """
import os, sys, threading
from phx_protocol import broadcast
threading.Thread(target=lambda: sys.stdin.read() or done.set(), daemon=True).start()
done, n = threading.Event(), 0
while not done.wait(float(os.environ["EVERY"])):
    n += 1
    broadcast("news:1", "news", {"n": n})
print(n)
"""


class Reader:
    """A page with history.js and phoenix.js's way to come back, as far as a server can tell."""

    tries = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0)

    def __init__(self, url: str) -> None:
        self.url = url
        self.read: list[int] = []
        self.gaps = 0  # times it learned that something is missing
        self.codes: list[int | None] = []  # with which its connections ended
        self.joined = asyncio.Event()
        self._have: dict[str, object] = {"offset": None, "senders": []}

    async def run(self) -> None:
        tried = 0
        while True:
            with contextlib.suppress(OSError, InvalidStatus, InvalidMessage):
                async with Client(self.url) as client:
                    tried = 0
                    with contextlib.suppress(ConnectionClosed):
                        await self._read(client)
                    self.codes.append(client.ws.close_code)
            self.joined.clear()
            await asyncio.sleep(self.tries[min(tried, len(self.tries) - 1)])
            tried += 1

    async def _read(self, client: Client) -> None:
        join = ["1", "1", "news:1", "phx_join", {"history": self._have}]
        await client.ws.send(json.dumps(join))
        async for text in client.ws:
            _, ref, _, event, payload = json.loads(text)
            if event == "phx_reply":
                history = payload["response"]["history"]
                if not history["recovered"]:
                    self._have["offset"] = history["offset"]
                    self.gaps += 1
                self.joined.set()
            elif event == "news":
                self._have["offset"] = ref
                self.read.append(payload["n"])


@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.big)])
async def test_in_a_rolling_restart_nobody_misses_anything(
    count: int, tmp_path: Path, redis_url: str
) -> None:
    env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
    env["PHX_DRAINER"] = json.dumps({"BATCH_SIZE": count // 8, "BATCH_INTERVAL": 0.2})
    with contextlib.ExitStack() as stack:
        ports = [servers.free_port(), servers.free_port()]

        def start(port: int) -> servers.Server:
            args = command("uvicorn", port)
            return stack.enter_context(
                servers.run(args, port, tmp_path / f"{port}.log", **env)
            )

        processes = [start(port) for port in ports]
        nginx = stack.enter_context(servers.nginx(tmp_path, *processes, **NGINX))
        readers = [Reader(nginx.url) for _ in range(count)]
        running = [asyncio.create_task(reader.run()) for reader in readers]

        async def all_are_there() -> None:
            async with asyncio.timeout(2 * TIMEOUT):
                await asyncio.gather(*(reader.joined.wait() for reader in readers))

        try:
            await all_are_there()
            publisher = await servers.start_async(
                *(sys.executable, "-m", "django", "shell", "-v", "0", "-c", PUBLISHER),
                env={
                    **os.environ,
                    **env,
                    "DJANGO_SETTINGS_MODULE": SETTINGS,
                    # what two cores can read
                    "EVERY": str(count / 10_000),
                },
                cwd=servers.ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(TIMEOUT):
                while not all(reader.read for reader in readers):
                    await asyncio.sleep(0.05)
            for index, port in enumerate(ports):
                os.kill(processes[index].process.pid, signal.SIGTERM)
                await ended(processes[index])
                processes[index] = await asyncio.to_thread(start, port)
                await all_are_there()
            output, _ = await publisher.communicate(b"")  # which ends its input
            last = int(output)
            async with asyncio.timeout(TIMEOUT):
                while not all(reader.read[-1] == last for reader in readers):
                    await asyncio.sleep(0.05)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        whole = list(range(1, last + 1))
        assert all(reader.read == whole for reader in readers)
        assert {reader.gaps for reader in readers} == {1}  # the first join
        # each was drained by one process at least, and closed by none in another way
        codes = [code for reader in readers for code in reader.codes]
        assert set(codes) == {1012} and len(codes) >= count
        assert max(len(reader.codes) for reader in readers) <= 2
