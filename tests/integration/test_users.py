"""Users and topics of two processes on one Redis: what the receivers in both hear together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis

from tests.support import leases, servers
from tests.support.leases import LEASE, SHORT
from tests.support.ws_client import Client

APPLICATION = "tests.integration.users_app:application"


class Line(NamedTuple):
    """What a receiver has written."""

    signal: str
    name: str
    id: str
    pid: int


class Site:
    """Two processes, and the file in which their receivers write."""

    def __init__(self, folder: Path, redis_url: str, lease: float = LEASE) -> None:
        self._redis_url = redis_url
        self._folder, self._told = folder, folder / "told"
        self._told.touch()
        self.env = {
            "PHX_TOLD": str(self._told),
            "DJANGO_SETTINGS_MODULE": "tests.integration.users_settings",
            "PHX_LAYER": "redis",
            "PHX_REDIS_URL": redis_url,
            "PHX_LEASE": str(lease),
        }
        self._stack = contextlib.ExitStack()
        self.servers = [self.start() for _ in range(2)]

    def start(self) -> servers.Server:
        log = self._folder / f"{servers.free_port()}.log"
        running = servers.serve("frames", log, APPLICATION, **self.env)
        return self._stack.enter_context(running)

    def stop(self) -> None:
        self._stack.close()

    def kill(self, server: servers.Server) -> None:
        """Kill it, and end its lease."""
        server.stop(signal.SIGKILL)
        with Redis.from_url(self._redis_url) as redis:
            leases.end(redis, server)

    def lines(self, name: str) -> list[Line]:
        split = (line.split(" ") for line in self._told.read_text().splitlines())
        lines = (Line(said, about, id, int(pid)) for said, about, id, pid in split)
        return [line for line in lines if line.name == name]

    def said(self, name: str) -> list[str]:
        """What was said of `name`; what has the same id was said again by another process."""
        return list({line.id: line.signal for line in self.lines(name)}.values())

    async def until(self, name: str, *said: str) -> list[Line]:
        """Wait until this was said of `name`, and nothing else."""
        async with asyncio.timeout(30):
            while len(self.said(name)) < len(said):
                await asyncio.sleep(0.05)
        assert self.said(name) == list(said)
        return self.lines(name)


@pytest.fixture(scope="module")
def lasting(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("users"), redis_url)
    yield site
    site.stop()


@pytest.fixture
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str
) -> AsyncIterator[Site]:
    """One of which a process may die."""
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    lease = getattr(request, "param", LEASE)
    site = await asyncio.to_thread(Site, tmp_path, redis_url, lease)
    yield site
    await asyncio.to_thread(site.stop)


def tab(server: servers.Server, user: str) -> Client:
    return Client(server.url, user=user)


async def online(server: servers.Server, *users: str) -> Any:
    async with tab(server, "who-asks") as client:
        await client.join("room:who-asks")
        asked = await client.ask("room:who-asks", "online", {"users": users})
    assert asked[0] == "ok"
    return asked[1]["users"]


async def test_a_user_with_tabs_on_two_processes_comes_and_goes_once(
    lasting: Site,
) -> None:
    one, two = lasting.servers
    async with tab(one, "ada"):
        async with tab(two, "ada"):
            await lasting.until("ada", "user_online")
            for server in lasting.servers:
                assert await online(server, "ada", "bob") == ["ada"]
        async with tab(two, "eve"):
            await lasting.until("eve", "user_online")
        # she left two after ada, who would be told of before her
        await lasting.until("eve", "user_online", "user_offline")
        assert lasting.said("ada") == ["user_online"]
    lines = await lasting.until("ada", "user_online", "user_offline")
    assert lines[0].id != lines[1].id
    assert await online(one, "ada") == []


async def test_who_moves_to_another_process_in_time_was_never_away(
    lasting: Site,
) -> None:
    one, two = lasting.servers
    async with tab(one, "mover"):
        await lasting.until("mover", "user_online")
    for server in (two, one, two, one):
        async with tab(server, "mover"):
            await asyncio.sleep(1.1)
            assert await online(server, "mover") == ["mover"]
    assert lasting.said("mover") == ["user_online"]
    await lasting.until("mover", "user_online", "user_offline")


async def test_topics_are_told_as_users_are(lasting: Site) -> None:
    one, two = lasting.servers
    async with tab(one, "x") as first, tab(two, "y") as second:
        await first.join("room:shared")
        await second.join("room:shared")
        await lasting.until("room:shared", "topic_occupied")
        await first.join("room:brief")
        await lasting.until("room:brief", "topic_occupied")
        for topic in ("room:shared", "room:brief"):
            await first.send(topic, "phx_leave", {}, first.join_refs[topic])
        await lasting.until("room:brief", "topic_occupied", "topic_vacated")
        assert lasting.said("room:shared") == ["topic_occupied"]
    await lasting.until("room:shared", "topic_occupied", "topic_vacated")


async def test_many_users_are_each_told_once(lasting: Site) -> None:
    users = [f"one-of-many-{n}" for n in range(300)]
    async with contextlib.AsyncExitStack() as stack:
        for i, user in enumerate(users):
            await stack.enter_async_context(tab(lasting.servers[i % 2], user))
        for user in users:
            await lasting.until(user, "user_online")
    for user in users:
        await lasting.until(user, "user_online", "user_offline")
    told = [line for user in users for line in lasting.lines(user)]
    assert len({line.id for line in told}) == 600
    assert len(Counter(line.pid for line in told)) == 2


async def test_a_process_that_is_killed_takes_its_users_with_it(site: Site) -> None:
    one, two = site.servers
    async with tab(one, "ada"), tab(one, "bob"), tab(two, "bob"):
        await site.until("ada", "user_online")
        await site.until("bob", "user_online")
        await asyncio.to_thread(site.kill, one)
        await site.until("ada", "user_online", "user_offline")
        assert await online(two, "ada", "bob") == ["bob"]
        assert site.said("bob") == ["user_online"]


async def test_a_process_that_is_killed_after_the_last_tab_closed_leaves_that_to_the_other(
    site: Site,
) -> None:
    one, two = site.servers
    async with tab(two, "who-stays"):
        async with tab(one, "ada"):
            await site.until("ada", "user_online")
        await asyncio.sleep(1.2)  # it is written, and not told
        await asyncio.to_thread(one.stop, signal.SIGKILL)
        assert site.said("ada") == ["user_online"]
        lines = await site.until("ada", "user_online", "user_offline")
        assert lines[1].pid == two.process.pid


@pytest.mark.parametrize("site", [SHORT], indirect=True, ids="lease={}".format)
@pytest.mark.parametrize("how", ["slow", "late"])
async def test_a_process_that_is_killed_while_receivers_run_tells_again_with_the_same_id(
    how: str, site: Site
) -> None:
    """A plain receiver that hangs when somebody comes, and an async one when somebody leaves."""
    user = f"{how}-ada"
    said = ["user_online"] if how == "slow" else ["user_online", "user_offline"]
    async with tab(site.servers[1], "who-stays"):
        async with tab(site.servers[0], user):
            await site.until(user, "user_online")
            if how == "slow":
                # while the process lives nobody else tells it: longer than a claim is kept
                await asyncio.sleep(7)
                await site.until(user, "user_online")
        first = (await site.until(user, *said))[-1]
        by_pid = {server.process.pid: server for server in site.servers}
        await asyncio.to_thread(by_pid[first.pid].stop, signal.SIGKILL)
        (left,) = (server for pid, server in by_pid.items() if pid != first.pid)
        async with tab(left, "who-stays"), asyncio.timeout(30):
            while (again := site.lines(user)[-1]) == first:
                await asyncio.sleep(0.05)
    assert again == first._replace(pid=left.process.pid)


async def test_a_deploy_of_all_processes_tells_who_did_not_come_back(
    site: Site,
) -> None:
    async with tab(site.servers[0], "ada"), tab(site.servers[1], "bob"):
        await site.until("ada", "user_online")
        await site.until("bob", "user_online")
        for server in site.servers:
            await asyncio.to_thread(server.stop)
    new = await asyncio.to_thread(site.start)
    async with tab(new, "bob"):
        await site.until("ada", "user_online", "user_offline")
        assert site.said("bob") in (
            ["user_online"],
            ["user_online", "user_offline", "user_online"],  # a slow machine
        )


async def test_a_redis_that_lost_its_data_tells_nobody_that_others_are_here(
    site: Site, redis_url: str
) -> None:
    async with tab(site.servers[0], "ada"):
        async with tab(site.servers[1], "bob"):
            await site.until("ada", "user_online")
            await site.until("bob", "user_online")
            await asyncio.sleep(1.5)
            with Redis.from_url(redis_url) as redis:
                redis.flushall()
        await site.until("bob", "user_online", "user_offline")
        async with asyncio.timeout(20):
            while await online(site.servers[0], "ada") != ["ada"]:
                await asyncio.sleep(0.2)
        assert site.said("ada") == ["user_online"]
