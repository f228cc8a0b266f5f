"""A site gets other Redis servers in rolling deploys, under load: clients miss nothing, or learn of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.integration import history_tab, test_presence_chaos
from tests.integration.history_tab import Ledger, at_rest, tabs_of
from tests.integration.test_presence_stays import Watcher
from tests.support import servers
from tests.support.redis_cluster import RedisCluster

Lists = dict[str, list[str]]

#: whose histories are long enough for a slow machine
TOPICS = tuple(f"long:site{n}" for n in range(9))
SOCKETS = {
    history_tab.APPLICATION: "tests.integration.history_sockets.HistorySocket",
    test_presence_chaos.APPLICATION: "tests.support.presence_app.RoomSocket",
}


class Site:
    """Two processes behind no proxy: a client goes to the one that is not being restarted."""

    def __init__(self, folder: Path, application: str, first: Lists) -> None:
        self._folder = folder
        self._application = application
        self._count = itertools.count()
        self.logs: list[Path] = []
        self.stack = contextlib.ExitStack()
        self.running = [self._start(first) for _ in range(2)]

    def _start(self, lists: Lists) -> servers.Server:
        self.logs.append(self._folder / f"{next(self._count)}.log")
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.integration.servers_settings",
            "PHX_SERVERS": json.dumps(lists),
            "PHX_SOCKET": SOCKETS[self._application],
            "PHX_LEAVE_AFTER": "20",
        }
        started = servers.serve("frames", self.logs[-1], self._application, **env)
        return self.stack.enter_context(started)

    @property
    def logged(self) -> str:
        return "".join(log.read_text() for log in self.logs)

    async def restart(self, place: int, lists: Lists) -> None:
        """The new process first, then the old one ends."""
        old = self.running[place]
        self.running[place] = await asyncio.to_thread(self._start, lists)
        old.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(old.process.wait, 30)

    async def deploy(self, lists: Lists) -> None:
        for place in range(2):
            await self.restart(place, lists)


@pytest.fixture
def three(of_the_module: list[str]) -> list[str]:
    """Three servers without anything, not even what they know of earlier changes."""
    for url in of_the_module:
        with Redis.from_url(url) as redis:
            redis.flushall()
    return of_the_module


@pytest.fixture(scope="module")
def of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(servers.redis(tmp_path_factory.mktemp(f"redis{n}")))
            for n in range(3)
        ]
        yield [f"redis://127.0.0.1:{server.port}/0" for server in started]


def deploys(old: list[str], new: list[str]) -> list[Lists]:
    """As docs/scaling.md says."""
    return [
        {"hosts": old, "next_hosts": new},
        {"hosts": new, "previous_hosts": old},
        {"hosts": new},
    ]


@contextlib.asynccontextmanager
async def staying(site: Site, *tabs: history_tab.Tab) -> AsyncIterator[None]:
    """Let `tabs` come back whenever their process ends."""

    async def stay(n: int, tab: history_tab.Tab) -> None:
        while True:
            await tab.until(lambda: not tab.is_open)
            with contextlib.suppress(OSError):
                await tab._end()
                await tab.enter(site.running[n % 2])

    tasks = [asyncio.create_task(stay(n, tab)) for n, tab in enumerate(tabs)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise result


async def clients_miss_nothing_or_learn_of_it(
    folder: Path, first: Lists, *following: Lists
) -> None:
    ledger, site = Ledger(), Site(folder, history_tab.APPLICATION, first)
    with site.stack:
        named = zip(("ada", "bob", "eve", "joe"), site.running * 2)
        async with tabs_of(ledger, *named, topics=TOPICS) as tabs:

            async def talk() -> None:
                for tab, topic in zip(itertools.cycle(tabs), itertools.cycle(TOPICS)):
                    if tab.rooms[topic].state == "joined":
                        await tab.say(topic)
                    await asyncio.sleep(0.01)

            async with staying(site, *tabs):
                for lists in following:
                    talking = asyncio.create_task(talk())
                    await site.deploy(lists)
                    await asyncio.sleep(1)
                    talking.cancel()
                    for topic in TOPICS:
                        await at_rest(topic, tabs[0], *tabs)
                    for tab in tabs:
                        for room in tab.rooms.values():
                            ledger.check(room, at_rest=True)
        ledger.check_senders()
        assert len(ledger.kept) > 100 * len(following)
        changes = [lists for lists in following if "previous_hosts" in lists]
        assert site.logged.count("the state is on") >= len(changes)
        for wrong in ("Traceback", "another list of servers", "missing in its history"):
            assert wrong not in site.logged


async def test_clients_miss_nothing_or_learn_of_it_while_one_server_becomes_three(
    three: list[str], tmp_path: Path
) -> None:
    knows, changes, _ = deploys(three[:1], three)
    await clients_miss_nothing_or_learn_of_it(tmp_path, knows, changes)


@pytest.mark.big
@pytest.mark.parametrize("way", ["one to three and back", "three to a cluster"])
async def test_clients_miss_nothing_or_learn_of_it_through_all_deploys(
    way: str, three: list[str], cluster: RedisCluster, tmp_path: Path
) -> None:
    if way == "three to a cluster":
        first, following = three, deploys(three, [cluster.url])
    else:
        first = three[:1]
        following = [*deploys(first, three), *deploys(three, first)]
    await clients_miss_nothing_or_learn_of_it(tmp_path, {"hosts": first}, *following)


@pytest.mark.parametrize("way", ["more", "fewer", "cluster"])
async def test_those_who_stay_see_no_diff_while_the_servers_change(
    way: str,
    three: list[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if way == "cluster":
        new = [request.getfixturevalue("cluster").url]
    else:
        new = three if way == "more" else three[2:]
    old = three[:1] if way == "more" else three[:2]
    knows, changes, _ = deploys(old, new)
    site = Site(tmp_path, test_presence_chaos.APPLICATION, knows)
    with site.stack:
        watchers = [Watcher(site.running[0], name) for name in ("ada", "bob", "eve")]
        for watcher in watchers:
            await watcher.enter()
        everyone = {"ada", "bob", "eve"}
        for watcher in watchers:
            await watcher.until(
                lambda: watcher.shown.metas("device").keys() == everyone, 20
            )
        for watcher in watchers:
            watcher.diffs.clear()
        await site.restart(1, changes)
        # a process begins its work with its first client
        joe = await Watcher(site.running[1], "joe").enter()
        async with asyncio.timeout(20):
            while site.logged.count("the state is on") < 2:
                await asyncio.sleep(0.1)
        wanted = everyone | {"joe"}
        for watcher in (*watchers, joe):
            await watcher.until(
                lambda: watcher.shown.metas("device").keys() == wanted, 20
            )
        await asyncio.sleep(3)  # a beat, after which all has been read again
        assert [len(watcher.diffs) for watcher in watchers] == [1, 1, 1]
        assert joe.diffs == [] or joe.shown.metas("device").keys() == wanted
        for watcher in (joe, *watchers):
            await watcher.exit()
        assert "Traceback" not in site.logged
