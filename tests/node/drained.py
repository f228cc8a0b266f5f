"""Servers that drain."""

from __future__ import annotations

import asyncio
import sys

from tests.support import servers
from tests.support.ws_client import TIMEOUT

APPLICATION = "tests.integration.drain_app:application"


def command(server: str, port: int) -> list[str]:
    if server != "gunicorn":
        return servers.command(server, port, APPLICATION)
    worker = ["-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "gunicorn", *worker, APPLICATION]


async def ended(server: servers.Server) -> int:
    """The exit status of the process."""
    return await asyncio.wait_for(asyncio.to_thread(server.process.wait), TIMEOUT)
