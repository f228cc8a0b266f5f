"""A token that is revoked, as phoenix.js and session.js see it, under Node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_revocation import APPLICATION, site_env
from tests.support import servers

HERE = Path(__file__).parent
MODULE = servers.ROOT / "phx_protocol/static/phx_protocol/session.js"
CLIENTS = [
    ("phoenix", "WebSocket"),
    ("phoenix", "LongPoll"),
    pytest.param("phoenix-1.8.12", "WebSocket", marks=pytest.mark.big),
]


class Site:
    """A server with a Redis, which can be started anew: both, on the port that they had."""

    def __init__(self, folder: Path, application: str = APPLICATION) -> None:
        self._folder, self._application = folder, application
        self.port, self._redis = servers.free_port(), servers.free_port()
        self._env = site_env(folder, f"redis://127.0.0.1:{self._redis}/0")
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        self._stack = contextlib.ExitStack()
        enter = self._stack.enter_context
        enter(servers.redis(self._folder, self._redis))
        command = servers.command("frames", self.port, self._application)
        log = self._folder / "log"
        enter(servers.run(command, self.port, log, **self._env))

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = await asyncio.to_thread(Site, tmp_path)
    await asyncio.to_thread(site.start)
    yield site
    await asyncio.to_thread(site.stop)


async def run(site: Site, folder: Path, package: str, transport: str, of: str) -> Any:
    # no package.json says that the .js is a module
    module = shutil.copy(MODULE, folder / "session.mjs")
    config = {"url": f"ws://127.0.0.1:{site.port}", "package": package}
    config |= {"module": str(module), "transport": transport, "scenario": of}
    command = ["node", str(HERE / "revoked.mjs"), json.dumps(config)]
    pipe = asyncio.subprocess.PIPE
    ran = await servers.start_async(*command, stdout=pipe, stderr=pipe)
    assert ran.stdout is not None and ran.stderr is not None
    async with asyncio.timeout(90):
        while line := (await ran.stdout.readline()).strip():
            if line != b"restart":
                return json.loads(line)
            await asyncio.to_thread(site.stop)
            await asyncio.to_thread(site.start)
        raise AssertionError((await ran.stderr.read()).decode())


@pytest.mark.parametrize(("package", "transport"), CLIENTS)
async def test_a_client_whose_token_is_revoked_comes_back_with_a_fresh_one(
    site: Site, tmp_path: Path, package: str, transport: str
) -> None:
    code = 3410 if transport == "LongPoll" else 4401  # phoenix.js has its own there
    found = await run(site, tmp_path, package, transport, "revoked")
    assert found == {"code": code, "status": "ok", "denied": []}
    found = await run(site, tmp_path, package, transport, "banned")
    assert found == {"code": code, "connected": False}


@pytest.mark.parametrize(("package", "transport"), CLIENTS)
async def test_when_everything_is_restarted_clients_come_back_and_revoked_ones_do_not(
    site: Site, tmp_path: Path, package: str, transport: str
) -> None:
    found = await run(site, tmp_path, package, transport, "restarted")
    assert found == {"status": "ok", "denied": [], "connected": False}
