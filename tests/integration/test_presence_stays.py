"""A presence that a reload, a deploy and a killed process do not disturb: two processes on one Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks.phxload import raise_fd_limit
from tests.integration.test_presence_chaos import (
    APPLICATION,
    SLACK,
    TOPIC,
    Tab,
    show,
)
from tests.support import leases, servers
from tests.support.leases import BEAT
from tests.support.ws_client import TIMEOUT

#: seconds for which a client is not missed: a busy machine may need some until it is back
AFTER = 8
UPGRADE = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
proxy_read_timeout 300;
"""


class Watcher(Tab):
    """A client that notes each diff, and each moment at which ada is not there."""

    def __init__(self, server: servers.Server, user: str = "bob") -> None:
        super().__init__(server, user, "laptop")
        self.diffs: list[object] = []
        self.missed: list[object] = []
        take = self.shown.take_diff

        def note(diff: Any) -> None:
            self.diffs.append(diff)
            take(diff)
            if "ada" not in self.shown.metas("device"):
                self.missed.append(diff)

        self.shown.take_diff = note


async def watching(site: servers.Server) -> Watcher:
    watcher = Watcher(site)
    await watcher.enter()
    return watcher


@contextlib.contextmanager
def two(
    folder: Path, redis_url: str, leave_after: float
) -> Iterator[list[servers.Server]]:
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.support.presence_settings",
        "PHX_REDIS_URL": redis_url,
        "PHX_LEAVE_AFTER": str(leave_after),
    }
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                servers.serve("frames", folder / f"{n}.log", APPLICATION, **env)
            )
            for n in range(2)
        ]


async def quiet(wanted: dict[str, list[str]], *watchers: Watcher) -> None:
    """Wait until all show these devices, and nobody has got a diff for a beat; forget those until now."""
    await show(wanted, *watchers, within=SLACK)
    while True:
        for watcher in watchers:
            watcher.diffs.clear()
            watcher.missed.clear()  # a diff may come before the list that it changes
        await asyncio.sleep(BEAT)
        if not any(watcher.diffs for watcher in watchers):
            return


async def closed(tab: Tab) -> int:
    """Wait until the server has closed the connection of `tab`; return the code."""
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionClosed):
            await tab.ws.wait_closed()
    return int(tab.ws.close_code or 0)


async def test_who_comes_back_to_another_process_is_not_noticed(
    tmp_path: Path, redis_url: str
) -> None:
    with two(tmp_path, redis_url, AFTER) as (here, there):
        ada = await Tab(here, "ada", "phone").enter()
        watchers = [await watching(site) for site in (here, there)]
        await quiet({"ada": ["phone"], "bob": ["laptop", "laptop"]}, *watchers)
        before = watchers[0].shown.refs()
        for site in (there, here, there):
            await ada.exit()
            ada = await Tab(site, "ada", "tablet").enter()
            await asyncio.sleep(BEAT)
        assert [w.diffs for w in watchers] == [[], []]
        await ada.until(lambda: ada.shown.refs() == before, SLACK)
        await ada.exit()
        for watcher in watchers:
            await watcher.until(
                lambda: "ada" not in watcher.shown.metas("device"), AFTER + 1 + SLACK
            )
            assert len(watcher.diffs) == 1
            await watcher.exit()


async def test_a_process_that_is_restarted_takes_nobody_with_it(
    tmp_path: Path, redis_url: str
) -> None:
    with two(tmp_path, redis_url, AFTER) as (here, there):
        ada = await Tab(here, "ada", "phone").enter()
        eve = await Tab(here, "eve", "phone").enter()
        watcher = await watching(there)
        all_of_them = {"ada": ["phone"], "bob": ["laptop"], "eve": ["phone"]}
        await quiet(all_of_them, watcher)
        here.process.send_signal(signal.SIGTERM)
        assert await closed(ada) == await closed(eve) == 1012
        here.process.wait(15)
        ada = await Tab(there, "ada", "phone").enter()
        assert watcher.diffs == []
        # eve does not come back: the process that is left tells of it
        wanted = {"ada": ["phone"], "bob": ["laptop"]}
        await watcher.until(
            lambda: watcher.shown.metas("device") == wanted,
            AFTER + 1 + 2 * BEAT + SLACK,
            wanted,
        )
        assert watcher.missed == []
        await ada.exit()
        await watcher.exit()


async def test_of_a_process_that_is_killed_clients_may_show_twice_and_never_not_at_all(
    tmp_path: Path, redis_url: str
) -> None:
    with two(tmp_path, redis_url, AFTER) as (here, there):
        await Tab(here, "ada", "phone").enter()
        watcher = await watching(there)
        once = {"ada": ["phone"], "bob": ["laptop"]}
        await quiet(once, watcher)
        here.process.kill()
        here.process.wait(15)
        ada = await Tab(there, "ada", "phone").enter()
        twice = {"ada": ["phone", "phone"], "bob": ["laptop"]}
        await show(twice, watcher, within=SLACK)
        with Redis.from_url(redis_url) as redis:
            leases.end(redis, here)
        await show(once, watcher, within=BEAT + SLACK)
        assert watcher.missed == []
        await ada.exit()
        await watcher.exit()


class Visitor:
    """It comes back as soon as its connection is lost. It reads no more than the answer to its join: a
    thousand of them must not need the time in which they have to be back."""

    lost = 0
    is_in = False

    def __init__(self, server: servers.Server, user: str) -> None:
        base = f"{server.url}/socket/websocket"
        self._url = f"{base}?vsn=2.0.0&user={user}&device=phone"

    async def stay(self, gate: asyncio.Semaphore) -> None:
        """`gate` lets some of them in at a time."""
        while True:
            try:
                async with gate:
                    connection = await self._enter()
            except (OSError, InvalidStatus, ConnectionClosed, TimeoutError):
                # a process drains, or is away
                await asyncio.sleep(0.2)
                continue
            self.is_in = True
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await connection.recv(decode=False)
            self.is_in = False
            self.lost += 1

    async def _enter(self) -> ClientConnection:
        options: dict[str, Any] = {"compression": None, "max_size": None}
        connection = await connect(self._url, ping_interval=None, proxy=None, **options)
        await connection.send(json.dumps(["1", "1", TOPIC, "phx_join", {}]))
        async with asyncio.timeout(TIMEOUT):
            while b'"phx_reply"' not in (await connection.recv(decode=False))[:100]:
                pass
        return connection


async def heartbeats(tab: Tab) -> None:
    """What phoenix.js sends, so that nobody takes `tab` for dead."""
    while True:
        await asyncio.sleep(20)
        await tab.send("phoenix", "heartbeat", {})


@pytest.mark.big
async def test_those_who_stay_see_no_diff_of_a_rolling_restart_with_a_thousand_presences(
    tmp_path: Path, redis_url: str
) -> None:
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.support.presence_settings",
        "PHX_REDIS_URL": redis_url,
        "PHX_LEAVE_AFTER": "15",
    }
    raise_fd_limit(10_000)  # here, and in nginx, which has two for each
    ports = [servers.free_port() for _ in range(3)]

    def process(n: int) -> contextlib.AbstractContextManager[servers.Server]:
        command = servers.command("frames", ports[n], APPLICATION)
        return servers.run(command, ports[n], tmp_path / f"{n}.log", **env)

    with contextlib.ExitStack() as stack:
        # those who stay are on a third process, which is not restarted
        *restarted, third = [stack.enter_context(process(n)) for n in range(3)]
        nginx = stack.enter_context(
            # as docs/operate.md says: nginx asks a process that has drained again at once
            servers.nginx(tmp_path, *restarted, location=UPGRADE, server="max_fails=0")
        )
        watcher = await watching(third)
        gate = asyncio.Semaphore(50)
        visitors = [Visitor(nginx, f"visitor{n}") for n in range(1000)]
        staying = [asyncio.create_task(visitor.stay(gate)) for visitor in visitors]
        staying.append(asyncio.create_task(heartbeats(watcher)))
        await watcher.until(lambda: len(watcher.shown.state) == 1001, 60)
        wanted = {f"visitor{n}": ["phone"] for n in range(1000)}
        await quiet({**wanted, "bob": ["laptop"]}, watcher)
        for n, running in enumerate(restarted):
            running.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(running.process.wait, 30)
            stack.enter_context(process(n))
            async with asyncio.timeout(60):
                # at the second restart all have been on that process
                while not all(v.is_in and v.lost >= n for v in visitors):
                    await asyncio.sleep(0.1)
        await asyncio.sleep(BEAT)
        assert sum(visitor.lost for visitor in visitors) >= 1000
        assert watcher.diffs == []
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
        await watcher.exit()
