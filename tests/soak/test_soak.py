"""Two processes under all that happens to a site, for as long as one likes; nothing stays behind.

A minute of it runs with the big tests; ``make soak`` runs twenty, with 2,000 sockets, and
``make soak SECONDS=14400`` four hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from benchmarks.phxload import raise_fd_limit
from tests.integration.test_slow_clients import Stalled
from tests.soak.visitors import Ledger, Polling, Visitor, again_and_again
from tests.support import servers
from tests.support.ws_client import Client

SECONDS = float(os.environ.get("SOAK_SECONDS", 60))
VISITORS = int(os.environ.get("SOAK_SOCKETS", 200))
ROOMS = max(1, VISITORS // 20)
#: what the one process of the test can take: the more there are, the less each does
PACE = max(1.0, VISITORS / 300)
POLLERS = min(10, VISITORS // 50)
#: share of the time after which memory is what a process needs
WARM = 0.4
#: seconds until what the last client had is gone: groups are kept for five
TIMEOUT = 60
MEMORY = 1.05
SENT_AWAY = b"\x88\x02" + (1013).to_bytes(2, "big")
#: the server's own two tasks and the one that answers; the one of the layer that listens to Redis
AT_REST = {"tasks": 4}


class Site:
    """Two processes on one Redis, which is restarted now and then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._redis_port = servers.free_port()
        self._redis = self._stack.enter_context(contextlib.ExitStack())
        self._start_redis()
        self.redis = Redis(port=self._redis_port)
        env = {"PHX_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0"}
        self.processes = [
            self._stack.enter_context(
                servers.serve(
                    "frames", directory / name, "tests.soak.app:application", **env
                )
            )
            for name in ("one", "two")
        ]
        self.urls = [process.url for process in self.processes]

    def _start_redis(self) -> None:
        self._running = self._redis.enter_context(
            servers.redis(self._directory, self._redis_port)
        )

    def restart_redis(self) -> None:
        self._running.stop(signal.SIGKILL)
        time.sleep(1)
        self._start_redis()

    async def kept(self) -> list[dict[str, int]]:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            addresses = [f"http://{p.address}/kept" for p in self.processes]
            return [(await http.get(address)).json() for address in addresses]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    raise_fd_limit(4 * VISITORS + 1000)
    site = Site(tmp_path)
    yield site
    site.close()


async def slow_readers(site: Site, ledger: Ledger) -> None:
    """One after the other joins where it is loud, reads nothing, and is disconnected."""
    process = site.processes[0]
    async with Client(process.url, user_id="loud") as loud:
        await loud.join("loud:1")
        while True:
            stalled = await asyncio.to_thread(Stalled, process.port, "slow", "loud:1")
            try:
                for _ in range(200):  # four seconds
                    await loud.push("loud:1", "shout")
                    await loud.until("shouted")
                    await asyncio.sleep(0.02)
                read = await asyncio.to_thread(stalled.read_all)
                ledger.counts["slow readers disconnected"] += read.endswith(SENT_AWAY)
            finally:
                stalled.socket.close()


async def restarts(site: Site, ledger: Ledger, seconds: float) -> None:
    """Redis goes and comes back, with nothing of what it had."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(site.restart_redis)
        ledger.counts["Redis restarts"] += 1


@contextlib.asynccontextmanager
async def visited(site: Site, ledger: Ledger, seconds: float) -> AsyncIterator[None]:
    """Everybody is there meanwhile."""
    visitors = [Visitor(n, ROOMS, site.urls, ledger, PACE) for n in range(VISITORS)]

    def poll(number: int) -> Any:
        process = site.processes[number % 2]
        return lambda: Polling(process.address, number, ROOMS, ledger).stay()

    tasks = [
        *(asyncio.create_task(visitor.run()) for visitor in visitors),
        *(asyncio.create_task(again_and_again(poll(n))) for n in range(POLLERS)),
        asyncio.create_task(again_and_again(lambda: slow_readers(site, ledger))),
        asyncio.create_task(restarts(site, ledger, seconds / 2.5)),
    ]
    try:
        yield
        broken = [task for task in tasks if task.done()]
        assert not broken, [task.exception() for task in broken]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def at_rest(site: Site, most: dict[str, int]) -> list[dict[str, int]]:
    """Return what the processes keep without clients: `most` of each kind, except for memory."""
    end = time.monotonic() + TIMEOUT
    while True:
        now = await site.kept()
        more = [
            {kind: count for kind, count in of_one.items() if count > most.get(kind, 0)}
            for of_one in now
        ]
        if not any(len(kinds) > 1 for kinds in more):
            return now
        assert time.monotonic() < end, more
        await asyncio.sleep(1)


@pytest.mark.big
async def test_nothing_is_lost_and_nothing_stays_behind(site: Site) -> None:
    ledger = Ledger()
    async with visited(site, ledger, SECONDS * WARM):
        await asyncio.sleep(SECONDS * WARM)
    warm = await at_rest(site, AT_REST)
    async with visited(site, ledger, SECONDS * (1 - WARM)):
        await asyncio.sleep(SECONDS * (1 - WARM))
    after = await at_rest(site, AT_REST)
    print(json.dumps({**ledger.counts, "warm": warm, "after": after}, indent=1))
    assert ledger.losses == []
    for happened in ("said", "echoed", "polled", "crashed", "recovered"):
        assert ledger.counts[happened], ledger.counts
    assert (
        ledger.counts["slow readers disconnected"]
        and ledger.counts["Redis restarts"] >= 2
    )
    assert ledger.counts["learned that something is missing"]
    for before, now in zip(warm, after):
        assert now["rss"] <= MEMORY * before["rss"]
    assert_state_is_empty(site.redis)
    for process in site.processes:
        process.stop(signal.SIGTERM)
        assert "Task was destroyed" not in process.logged()
        assert "never retrieved" not in process.logged()


def assert_state_is_empty(redis: Redis) -> None:
    """Nobody is present, and what is kept for a while has an end."""
    present = [
        key for key in redis.scan_iter("asgi:phx:*:entries:*") if redis.hlen(key)
    ]
    assert present == []
    lasting = [key for key in redis.scan_iter("*") if redis.pttl(key) == -1]
    assert lasting == []
