"""Commands of manage.py in processes of their own, beside two servers on Redis or on the local bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support import servers
from tests.support.ws_client import TIMEOUT

SETTINGS = "tests.conformance.settings"


class Two(NamedTuple):
    one: servers.Server
    other: servers.Server
    env: dict[str, str]


@contextlib.contextmanager
def on_bus() -> Iterator[dict[str, str]]:
    """The environment of processes on a local bus of their own, as if no test ran."""
    # not in tmp_path, whose name is too long for a socket
    with tempfile.TemporaryDirectory(prefix="phx-") as folder:
        runtime = {"XDG_RUNTIME_DIR": folder, "PYTEST_CURRENT_TEST": ""}
        yield {**runtime, "PHX_REDIS_URL": "", "PHX_LOCAL_BUS": "1"}


@pytest.fixture(scope="module", params=["redis", "bus"])
def two(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_url: str,
) -> Iterator[Two]:
    tmp_path = tmp_path_factory.mktemp("operators")
    redis = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
    on = contextlib.nullcontext(redis) if request.param == "redis" else on_bus()
    with (
        on as env,
        servers.serve("uvicorn", tmp_path / "one", **env) as one,
        servers.serve("uvicorn", tmp_path / "other", **env) as other,
    ):
        yield Two(one, other, env)


class Command:
    """``python -m django <arguments>`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, env: dict[str, str], *args: str) -> Command:
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, **env}
        process = await servers.start_async(
            *(sys.executable, "-m", "django", *args, "--no-color"),
            env={**env, "PYTHONUNBUFFERED": "1"},
            cwd=servers.ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (
            await asyncio.wait_for(self.process.stdout.readline(), TIMEOUT)
        ).decode()

    async def until_ready(self) -> None:
        """Until it has said on stderr what it does."""
        assert self.process.stderr is not None
        await asyncio.wait_for(self.process.stderr.readline(), TIMEOUT)

    async def ended(self, typed: str = "") -> tuple[int, str, str]:
        """Its status, its output, and its errors."""
        out, err = await asyncio.wait_for(
            self.process.communicate(typed.encode()), TIMEOUT
        )
        return self.process.returncode or 0, out.decode(), err.decode()


async def run(two: Two, *args: str, typed: str = "") -> tuple[int, str, str]:
    return await (await Command.start(two.env, *args)).ended(typed)


async def table(two: Two, *args: str) -> list[list[str]]:
    """The cells of what a command lists, its heads first."""
    status, out, err = await run(two, *args)
    assert status == 0, err
    return [re.split(r"  +", line.strip()) for line in out.splitlines()]
