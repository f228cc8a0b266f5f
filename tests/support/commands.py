"""Commands of manage.py in processes of their own, beside two servers on one Redis."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support import servers
from tests.support.ws_client import TIMEOUT

SETTINGS = "tests.conformance.settings"


class Two(NamedTuple):
    one: servers.Server
    other: servers.Server
    redis_url: str


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Two]:
    tmp_path = tmp_path_factory.mktemp("operators")
    env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
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
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "PHX_LAYER": "redis"}
        process = await servers.start_async(
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
    return await (await Command.start(two.redis_url, *args)).ended(typed)


async def table(two: Two, *args: str) -> list[list[str]]:
    """The cells of what a command lists, its heads first."""
    status, out, err = await run(two, *args)
    assert status == 0, err
    return [re.split(r"  +", line.strip()) for line in out.splitlines()]
