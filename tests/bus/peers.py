"""Other processes on the local bus, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import servers
from tests.support.ws_client import TIMEOUT


class Peer:
    """``tests.bus.peer`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hears(self) -> Any:
        """The next that it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            return json.loads(await self.process.stdout.readline())

    async def send(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def peer(kind: str = "serving", **env: str) -> AsyncIterator[Peer]:
    """One that has opened its place."""
    process = await servers.start_async(
        *(sys.executable, "-m", "tests.bus.peer", kind),
        cwd=servers.ROOT,
        env={**os.environ, **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    one = Peer(process)
    try:
        assert await one.hears() == "ready"
        yield one
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(TIMEOUT):
                await process.wait()
    finally:
        if process.returncode is None:
            await one.kill()
