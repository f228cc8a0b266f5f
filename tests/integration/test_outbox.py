"""Processes that send an outbox are killed, stopped and woken, and Redis is: what was committed arrives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio
from channels.db import database_sync_to_async
from django.db import connections

from phx_protocol.node.node import get_node
from phx_protocol.outbox.models import Message
from tests.outbox.hearing import Hearing
from tests.outbox.transactions import Writer, Written, check_heard
from tests.support import databases, leases, servers

TOPICS = ["room:a", "room:b", "kept:a", "kept:b", "partly:a"]
_numbers = itertools.count()


class MortalRedis:
    """A redis-server that keeps nothing: when it is started again, it is empty."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, servers.free_port()
        self._running = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._running.enter_context(servers.redis(self._folder, self._port))

    def stop(self) -> None:
        self._running.close()


class Site(NamedTuple):
    """A database with an outbox, and a Redis."""

    database: str
    settings: dict[str, Any]
    redis: MortalRedis
    folder: Path

    def relay(self, die_at: int | None = None) -> subprocess.Popen[bytes]:
        """Start a process that sends; it kills itself at its `die_at`-th step."""
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.integration.outbox_settings",
            "PHX_TEST_DATABASE": json.dumps(self.settings),
            "PHX_REDIS_URL": self.redis.url,
        }
        if die_at is not None:
            environment["PHX_TEST_DIE_AT"] = str(die_at)
        log = (self.folder / "relays.log").open("ab")
        command = [sys.executable, "-m", "django", "phx_outbox"]
        return servers.start(
            command, env=environment, cwd=servers.ROOT, stdout=log, stderr=log
        )


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.process)]
)
def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    django_db_blocker: Any,
    settings: Any,
) -> Iterator[Site]:
    if request.param == "sqlite":
        chosen = databases.sqlite_in(tmp_path)
    else:
        port = str(request.getfixturevalue("postgres").port)
        chosen = databases.settings_of("postgresql", port)
    name, redis = f"site{next(_numbers)}", MortalRedis(tmp_path)
    redis.start()
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "phx_protocol.layers.RedisLayer",
            "CONFIG": {"hosts": [redis.url]},
        }
    }
    settings.PHX_PROTOCOL = {
        "SOCKETS": {"/socket": "tests.outbox.hearing.OutboxSocket"},
        "STATE": leases.state(),
        "OUTBOX": {"DATABASES": [name]},
    }
    with django_db_blocker.unblock(), databases.known(name, chosen):
        yield Site(name, chosen, redis, tmp_path)
    redis.stop()
    log = tmp_path / "relays.log"
    if log.exists():
        print(log.read_text()[-3000:])


@pytest_asyncio.fixture
async def heard(site: Site) -> AsyncIterator[Hearing]:
    node = get_node()
    hearing = await Hearing.of(node, *TOPICS)
    yield hearing
    hearing.close()
    await node.close()


class Load:
    """Transactions that write at random, several at once where the database has that."""

    def __init__(self, site: Site) -> None:
        several = 1 if connections[site.database].vendor == "sqlite" else 3
        self._writers = [Writer(site.database) for _ in range(several)]
        self._clock, self._numbers = itertools.count(1), itertools.count(1)
        self._random = random.Random(7)
        self.written: dict[int, Written] = {}

    def step(self) -> None:
        """Begin a transaction, write into one, or end one."""
        writer, choice = self._random.choice(self._writers), self._random.random()
        if not writer.is_open:
            writer.begin(next(self._clock))
        elif choice < 0.7:
            topic = self._random.choice(TOPICS)
            event = self._random.choice(["kept", "not kept"])
            n = next(self._numbers)
            self.written[n] = Written(n, topic, event, writer.begun)
            writer.write(self.written[n])
        else:
            writer.end(next(self._clock) if choice < 0.95 else None)

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await asyncio.to_thread(self.step)

    def commit(self) -> None:
        """End all transactions: on SQLite one that is open keeps others from writing."""
        for writer in self._writers:
            if writer.is_open:
                writer.end(next(self._clock))

    def close(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()

    def committed(self) -> set[int]:
        return {n for n, row in self.written.items() if row.committed is not None}


@pytest_asyncio.fixture
async def load(site: Site) -> AsyncIterator[Load]:
    load = Load(site)
    yield load
    await asyncio.to_thread(load.close)


@contextlib.asynccontextmanager
async def running(site: Site, relays: int = 1) -> AsyncIterator[list[Any]]:
    started = [site.relay() for _ in range(relays)]
    try:
        yield started
    finally:
        for one in started:
            one.send_signal(signal.SIGCONT)
            one.terminate()
            # the second, if it has only just been started
            ended = await asyncio.to_thread(one.wait, 30)
            assert ended in (0, -signal.SIGTERM)


@database_sync_to_async
def rows_of(database: str) -> int:
    return Message._default_manager.using(database).count()


async def all_arrived(site: Site, heard: Hearing, load: Load) -> None:
    load.close()
    wanted = load.committed()
    await heard.until(lambda: wanted <= {*heard.numbers()}, 60)
    async with asyncio.timeout(30):
        while await rows_of(site.database):
            await asyncio.sleep(0.02)
    check_heard(load.written, heard.numbers())


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.big)])
async def test_relays_that_are_killed_at_any_step_lose_nothing(
    site: Site, heard: Hearing, load: Load, times: int
) -> None:
    died = 0
    chosen = random.Random(3)
    for _ in range(times):
        await load.run(60)
        relay = site.relay(die_at=chosen.randint(20, 140))
        while relay.poll() is None:
            await load.run(5)
        died += relay.returncode == -signal.SIGKILL
    assert died == times
    async with running(site):
        await all_arrived(site, heard, load)


async def test_of_two_relays_each_has_partitions_of_its_own(
    site: Site, heard: Hearing, load: Load
) -> None:
    async with running(site, 2) as relays:
        await load.run(300)
        relays[0].kill()
        await asyncio.to_thread(relays[0].wait, 30)
        await load.run(100)
        relays[0] = site.relay()
        await all_arrived(site, heard, load)


async def test_a_relay_that_is_stopped_beyond_its_lease_does_no_harm_when_it_wakes(
    site: Site, heard: Hearing, load: Load
) -> None:
    async with running(site, 2) as relays:
        for stopped in relays:
            await load.run(100)
            stopped.send_signal(signal.SIGSTOP)
            before = len(heard.broadcasts)
            await load.run(100)
            # the other one goes on with the partitions of both
            async with asyncio.timeout(30):
                while len({*heard.numbers()[before:]}) < 20:
                    await load.run(10)
            await asyncio.sleep(2)  # the lease is over
            stopped.send_signal(signal.SIGCONT)
        await all_arrived(site, heard, load)


async def test_nothing_is_lost_while_redis_is_away_and_when_it_has_lost_its_data(
    site: Site, heard: Hearing, load: Load
) -> None:
    async with running(site):
        await load.run(100)
        load.commit()
        await heard.count(10)
        before = max(load.written)
        await asyncio.to_thread(site.redis.stop)
        await load.run(200)
        await asyncio.sleep(1.5)  # it is tried in vain, once a second
        site.redis.start()
        await load.run(50)
        load.close()
        async with asyncio.timeout(60):
            while await rows_of(site.database):
                await asyncio.sleep(0.02)
    kept = {n for n in load.committed() if load.written[n].is_kept}
    missing = kept - {*heard.numbers()} - await in_histories()
    # a client of such a topic was told
    assert not missing or heard.losses
    assert not missing & {n for n in kept if n > before}


async def in_histories() -> set[int]:
    """What clients that join now could get."""
    found: set[int] = set()
    for topic in TOPICS[2:]:
        state = get_node().heartbeat_of(topic).state
        head, page = await state.since(topic, 0, 600, partial=True)
        while page:
            found |= {msgspec.json.decode(kept.payload)["n"] for kept in page}
            head, page = await state.since(topic, page[-1].n, 600, partial=True)
    return found
