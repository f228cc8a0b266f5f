"""Two processes on three servers of Redis, of which some are killed, and come back empty.

The layer and the state spread their topics in ways of their own: a topic has a place in each.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from phx_protocol.layers import RedisLayer
from phx_protocol.pubsub.message import group_name
from tests.integration import history_tab, test_presence_chaos
from tests.integration.history_tab import Ledger, Tab, at_rest, tabs_of
from tests.integration.test_presence_chaos import SLACK, open_tabs, show
from tests.support import servers
from tests.support.spread import SHARDS, Shards
from tests.support.ws_client import TIMEOUT

#: long, as it is to be kept by a process on a slow machine; and the seconds between two beats
LEASE = 6.0
BEAT = LEASE / 4
#: the place of a topic's state, that of its channel in the layer
Places = tuple[int, int]


class Site:
    """Two processes and their three servers."""

    def __init__(
        self, folder: Path, application: str, settings: str, begin: str
    ) -> None:
        self.shards = Shards(folder)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.shards.stop)
        env = {"PHX_LAYER": "redis", "PHX_REDIS_URL": " ".join(self.shards.urls)}
        env |= {"DJANGO_SETTINGS_MODULE": settings, "PHX_LEASE": str(LEASE)}
        try:
            self.processes = [
                self._stack.enter_context(
                    servers.serve("frames", folder / f"{n}.log", application, **env)
                )
                for n in range(2)
            ]
        except BaseException:
            self.close()
            raise
        #: one of each kind
        self.topics: dict[Places, str] = {}
        layer = RedisLayer(hosts=self.shards.urls)._here()
        for n in itertools.count():
            topic = f"{begin}{n}"
            channel = layer.shard_of(layer.name_of(group_name(topic)))
            places = self.shards.place_of(topic), layer.shards.index(channel)
            self.topics.setdefault(places, topic)
            if len(self.topics) == SHARDS**2:
                break

    def with_state_on(self, *places: int) -> list[str]:
        return [topic for (state, _), topic in self.topics.items() if state in places]

    async def kill(self, place: int) -> None:
        """Kill a server; returns when both processes know that its state fails."""
        await asyncio.to_thread(self.shards.servers[place].stop, signal.SIGKILL)
        await self.both_say(f"the state on {self.shards.names[place]} fails")

    async def bring_back(self, place: int) -> None:
        """Start it again; returns when the state of both processes works again."""
        await asyncio.to_thread(self.shards.start, place)
        await self.both_say(f"the state on {self.shards.names[place]} works again")

    async def both_say(self, line: str) -> None:
        """Wait until both have logged it once more than the other half of its outages."""
        fails, works = line.replace("works again", "fails"), line.replace(
            "fails", "works again"
        )
        wanted = 1 if line == fails else 0
        async with asyncio.timeout(TIMEOUT):
            while any(
                log.count(fails) - log.count(works) != wanted
                for log in (process.logged() for process in self.processes)
            ):
                await asyncio.sleep(0.05)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
async def chats(tmp_path: Path) -> AsyncIterator[Site]:
    settings = "tests.integration.history_settings"
    with contextlib.closing(
        Site(tmp_path, history_tab.APPLICATION, settings, "long:")
    ) as site:
        yield site


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Site]:
    application = test_presence_chaos.APPLICATION
    settings = "tests.support.presence_settings"
    with contextlib.closing(Site(tmp_path, application, settings, "room:")) as site:
        yield site


# ------------------------------------------------------------------------ histories


@contextlib.asynccontextmanager
async def talking(site: Site, tabs: list[Tab], seed: int) -> Any:
    """Some of `tabs` say something on each topic, again and again."""
    chance = random.Random(seed)

    async def talk() -> None:
        while True:
            for topic in site.topics.values():
                await chance.choice(tabs).say(topic)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def all_show_more(topics: list[str], *tabs: Tab) -> None:
    """Wait until each room shows five more broadcasts than now, with an offset or without."""

    def count(tab: Tab, topic: str) -> int:
        return sum(len(v.shown) + len(v.loose) for v in tab.rooms[topic].views)

    before = {(tab, topic): count(tab, topic) for tab in tabs for topic in topics}
    for (tab, topic), n in before.items():
        await tab.until(lambda: count(tab, topic) >= n + 5, f"hears nothing on {topic}")


def shows_everything(topic: str, ledger: Ledger, *tabs: Tab) -> None:
    """All of them show all that was ever said, once and in the same order, and never learned of a loss."""
    said = {number for number, sent in ledger.sent.items() if sent.topic == topic}
    for tab in tabs:
        room = tab.rooms[topic]
        assert len(room.views) == 1 and not room.view.loose, (tab.name, topic)
        assert room.shown == tabs[0].rooms[topic].shown, (tab.name, topic)
        assert len(room.shown) == len(said) and {*room.shown} == said


def shows_nothing_twice(topic: str, ledger: Ledger, *tabs: Tab) -> None:
    """Each broadcast came once, and those of one join in their order."""
    for tab in tabs:
        room = tab.rooms[topic]
        ledger.check(room, at_rest=True)
        came = [*room.shown, *(n for view in room.views for n in view.loose)]
        assert len(came) == len({*came}), (tab.name, topic)
        for view in room.views:
            for numbers in (view.numbers, view.loose):
                joins: dict[str, list[int]] = {}
                for number in numbers:
                    joins.setdefault(ledger.sent[number].join, []).append(number)
                assert all(said == sorted(said) for said in joins.values())


async def test_only_clients_of_the_histories_of_a_killed_server_learn_of_a_loss(
    chats: Site,
) -> None:
    one, two = chats.processes
    spared, struck = chats.with_state_on(0, 2), chats.with_state_on(1)
    named, ledger = (("ada", one), ("eve", two), ("joe", two)), Ledger()
    async with tabs_of(ledger, *named, topics=tuple(chats.topics.values())) as tabs:
        *here, joe = tabs
        async with talking(chats, here, seed=1):
            await all_show_more(spared + struck, *tabs)
            await joe.exit()
            await chats.kill(1)
            # even those whose channel was on the killed one
            await all_show_more(spared, *here)
            await joe.enter(one)
            for topic in spared:
                assert len(joe.rooms[topic].views) == 1 and joe.rooms[topic].recovered
            for topic in struck:
                assert len(joe.rooms[topic].views) == 2
            await chats.bring_back(1)
            for topic in struck:
                for tab in here:
                    room = tab.rooms[topic]
                    await tab.until(lambda: len(room.views) > 1, "is told of no loss")
        for topic in spared + struck:
            await at_rest(topic, joe, *tabs)
        for topic in spared:
            shows_everything(topic, ledger, *tabs)
        for topic in spared + struck:
            shows_nothing_twice(topic, ledger, *tabs)
    names_it_once(chats, 1)


@pytest.mark.big
@pytest.mark.parametrize("seed", range(3))
async def test_servers_that_come_and_go_touch_no_history_on_the_one_that_stays(
    chats: Site, seed: int
) -> None:
    one, two = chats.processes
    chance, ledger = random.Random(seed), Ledger()
    named = ("ada", one), ("bob", one), ("eve", two), ("joe", two)
    async with tabs_of(ledger, *named, topics=tuple(chats.topics.values())) as tabs:
        *here, joe = tabs
        async with talking(chats, here, seed):
            for _ in range(6):
                await joe.exit()
                going = chance.sample([0, 1], chance.choice([1, 1, 2]))
                for place in going:
                    await chats.kill(place)
                    await asyncio.sleep(chance.uniform(0, 1))
                if chance.random() < 0.5:
                    await joe.enter(chance.choice([one, two]))
                for place in going:
                    await asyncio.sleep(chance.uniform(0, 2))
                    await chats.bring_back(place)
                if not joe.is_open:
                    await joe.enter(chance.choice([one, two]))
        for topic in chats.topics.values():
            await at_rest(topic, here[0], *tabs)
            shows_nothing_twice(topic, ledger, *tabs)
        for topic in chats.with_state_on(2):
            shows_everything(topic, ledger, *tabs)
            assert joe.rooms[topic].recovered
    for process in chats.processes:
        assert "Traceback" not in process.logged()


def names_it_once(site: Site, killed: int) -> None:
    """Each process has logged the outage of that server, and of no other."""
    for process in site.processes:
        logged = process.logged()
        for place, name in enumerate(site.shards.names):
            was = int(place == killed)
            assert logged.count(f"the state on {name} fails") == was, logged
        assert logged.count("the lease of ") == 1, logged
        assert "Traceback" not in logged


# ------------------------------------------------------------------------ presences


async def test_only_lists_of_a_killed_server_lack_others_and_only_while_it_is_away(
    rooms: Site,
) -> None:
    one, two = rooms.processes
    wanted = {"ada": ["phone"], "bob": ["laptop"]}
    spared, struck = rooms.with_state_on(0, 2), rooms.with_state_on(1)
    async with contextlib.AsyncExitStack() as stack:
        pairs = {}
        for topic in rooms.topics.values():
            seats = (one, "ada", "phone"), (two, "bob", "laptop")
            pairs[topic] = await open_tabs(stack, *seats, topic=topic)
        for tabs in pairs.values():
            await show(wanted, *tabs, within=SLACK)
        refs = {topic: tabs[0].shown.refs() for topic, tabs in pairs.items()}
        seen = {tab: len(tab.shown.diffs) for tabs in pairs.values() for tab in tabs}
        await rooms.kill(1)

        # whoever comes now is seen by all, or by those in the same process
        both = {**wanted, "eve": ["watch"]}
        for topic, tabs in pairs.items():
            tabs += await open_tabs(stack, (two, "eve", "watch"), topic=topic)
        for topic in spared:
            await show(both, *pairs[topic], within=BEAT + SLACK)
        for topic in struck:
            ada, bob, eve = pairs[topic]
            await show(both, bob, eve, within=SLACK)
            assert ada.shown.metas("device") == wanted

        await rooms.bring_back(1)
        for topic, tabs in pairs.items():
            await show(both, *tabs, within=4 * BEAT + SLACK)
            assert tabs[0].shown.refs().items() >= refs[topic].items()
        for topic in spared:  # eve came, and nothing else has happened
            for tab in pairs[topic][:2]:
                (diff,) = tab.shown.diffs[seen[tab] :]
                assert (diff["joins"].keys(), diff["leaves"]) == ({"eve"}, {})
        for topic in struck:  # nobody left, and nobody came twice
            for tab in pairs[topic][:2]:
                diffs = tab.shown.diffs[seen[tab] :]
                assert not any(diff["leaves"] for diff in diffs)
                assert [key for diff in diffs for key in diff["joins"]] == ["eve"]
    names_it_once(rooms, 1)
