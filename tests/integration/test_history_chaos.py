"""Two processes on one Redis, and what happens to them: clients miss nothing, or learn of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support import leases, servers
from tests.support.poll_client import Poller
from tests.support.ws_client import TIMEOUT, Client

from .history_tab import (
    APPLICATION,
    Cluster,
    Ledger,
    Room,
    Tab,
    at_rest,
    cluster_on,
    tabs_of,
)

LAYERS = ["redis", pytest.param("core-default", marks=pytest.mark.big)]


@pytest.fixture(scope="module", params=LAYERS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """For the tests that leave the processes as they were."""
    with cluster_on(tmp_path_factory.mktemp("chaos"), request.param) as cluster:
        yield cluster


@pytest.fixture(params=LAYERS)
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """For one that kills."""
    with cluster_on(tmp_path, request.param) as cluster:
        yield cluster


_names = itertools.count()


@pytest.fixture
def topics() -> tuple[str, str]:
    """That nobody else has."""
    n = next(_names)
    return f"kept:chaos{n}", f"long:chaos{n}"


@contextlib.asynccontextmanager
async def two_on_each(
    cluster: Cluster, ledger: Ledger, topics: tuple[str, ...]
) -> AsyncIterator[list[Tab]]:
    names = ["ada", "bob", "eve", "joe"]
    where = [cluster.one, cluster.one, cluster.two, cluster.two]
    async with tabs_of(ledger, *zip(names, where), topics=topics) as tabs:
        yield tabs


async def burst(tab: Tab, ledger: Ledger, topic: str, count: int) -> int:
    """`tab` has so many broadcast, as fast as its process can; returns the last of them."""
    numbers = [ledger.send(topic, "msg", tab.name, "") for _ in range(count)]
    payload = {"from": numbers[0], "to": numbers[-1] + 1}
    await tab.push(topic, "burst", payload)
    return numbers[-1]


async def all_show(topic: str, number: int, *tabs: Tab) -> None:
    """Wait until all `tabs` show it, or have learned of a loss."""
    for tab in tabs:
        room, before = tab.rooms[topic], len(tab.rooms[topic].views)
        await tab.until(
            lambda: number in room.view.numbers or len(room.views) > before,
            f"waits for {number}",
        )


def check(ledger: Ledger, *tabs: Tab) -> None:
    for tab in tabs:
        for room in tab.rooms.values():
            ledger.check(room, at_rest=True)


def nobody_lost_anything(*tabs: Tab) -> None:
    """They all show the very same, from their first join on."""
    for tab in tabs:
        for topic, room in tab.rooms.items():
            assert len(room.views) == 1, (tab.name, topic)
            assert room.shown == tabs[0].rooms[topic].shown, (tab.name, topic)


def signalled(server: servers.Server, how: signal.Signals) -> None:
    os.killpg(server.process.pid, how)


# ------------------------------------------------------------- nothing is lost


async def test_a_blast_is_shown_in_full_by_all_whatever_the_layer_drops(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    """The core layer drops what is more than 100 messages; the history has it."""
    ledger, (_, long) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        # both at once, and each of them faster than the other process reads
        await burst(tabs[0], ledger, long, 1000)
        await burst(tabs[2], ledger, long, 1000)
        for tab in tabs:
            room = tab.rooms[long]
            await tab.until(lambda: len(room.shown) == 2000, "waits for all 2000")
        nobody_lost_anything(*tabs)
        assert sorted(tabs[0].rooms[long].shown) == list(range(2000))
        check(ledger, *tabs)


async def test_a_blast_of_more_than_is_kept_is_shown_in_full_or_recovered_is_false(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    ledger, (kept, _) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        await burst(tabs[0], ledger, kept, 1000)
        await burst(tabs[2], ledger, kept, 1000)
        await at_rest(kept, tabs[0], *tabs)
        check(ledger, *tabs)


async def test_clients_of_a_process_that_hears_nothing_for_a_moment_miss_nothing(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    """Its connection to Redis is killed in the middle of a burst, again and again."""
    if shared.layer != "redis":
        pytest.skip("the core layer has no such connection")
    ledger, (_, long) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        for n in range(4):
            last = await burst(tabs[0], ledger, long, 300)
            room = tabs[2].rooms[long]
            await tabs[2].until(lambda: len(room.shown) > n * 300 + 20)
            connections = shared.client.client_list(_type="pubsub")
            killed = connections[n % len(connections)]
            shared.client.client_kill_filter(_id=killed["id"])
            await all_show(long, last, *tabs)
        nobody_lost_anything(*tabs)
        assert tabs[0].rooms[long].shown == list(range(1200))


async def test_clients_of_a_process_that_was_paused_for_long_are_up_to_date_again(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    ledger, (kept, long) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        ada, bob, eve, joe = tabs
        for topic in topics:
            await at_rest(topic, ada, *tabs)
        signalled(shared.two, signal.SIGSTOP)
        try:
            lasts = [await burst(ada, ledger, topic, 150) for topic in topics]
            for topic, last in zip(topics, lasts):
                await all_show(topic, last, ada, bob)
            said, _ = await eve.say(long)  # to who does not read now
            leases.end(shared.client, shared.two)
        finally:
            signalled(shared.two, signal.SIGCONT)
        await all_show(long, said, *tabs)
        for topic in topics:
            await at_rest(topic, joe, *tabs)
        for tab in tabs:
            assert len(tab.rooms[long].views) == 1  # enough is kept
        check(ledger, *tabs)
        assert [len(tab.rooms[kept].views) for tab in (ada, bob)] == [1, 1]


async def test_a_client_that_comes_back_in_a_burst_misses_nothing(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    """Again and again, to the one process and the other."""
    ledger, (_, long) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        traveller = Tab("traveller", ledger, long)
        await traveller.enter(shared.one, by_line=True)
        last = await burst(tabs[0], ledger, long, 800)
        other = await burst(tabs[2], ledger, long, 800)
        homes = itertools.cycle(reversed(shared.servers))
        while not {last, other} <= set(tabs[0].rooms[long].shown):
            await traveller.cut()
            await traveller.enter(next(homes), by_line=True)
        await at_rest(long, tabs[0], traveller, *tabs)
        nobody_lost_anything(*tabs)
        assert len(traveller.rooms[long].views) == 1
        assert traveller.rooms[long].shown == tabs[0].rooms[long].shown
        check(ledger, traveller, *tabs)
        await traveller.exit()


# --------------------------------------------------------------- all is lost


async def test_after_a_flush_all_learn_of_the_loss_and_later_broadcasts_are_in_order(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    ledger = Ledger()
    async with two_on_each(shared, ledger, topics) as tabs:
        for topic in topics:
            last = await burst(tabs[0], ledger, topic, 10)
            await all_show(topic, last, *tabs)
        nobody_lost_anything(*tabs)
        shared.client.flushall()
        for topic in topics:
            for tab in tabs:  # at the next beat, though nothing is broadcast
                await tab.until(lambda: len(tab.rooms[topic].views) == 2)
            assert all(
                tab.rooms[topic].errors == [{"reason": "history lost"}] for tab in tabs
            )
        for topic in topics:
            for tab in (tabs[0], tabs[2]):
                last = await burst(tab, ledger, topic, 15)
                await all_show(topic, last, *tabs)
            assert len({tuple(tab.rooms[topic].view.numbers) for tab in tabs}) == 1
            assert len(tabs[0].rooms[topic].view.numbers) == 30
        check(ledger, *tabs)


async def test_clients_learn_of_every_gap_after_a_flush_in_a_burst(
    shared: Cluster, topics: tuple[str, str]
) -> None:
    ledger, (_, long) = Ledger(), topics
    async with two_on_each(shared, ledger, topics) as tabs:
        for _ in range(3):
            for tab in (tabs[0], tabs[2]):
                await burst(tab, ledger, long, 300)
            await asyncio.sleep(0.05)
            shared.client.flushall()
            for tab in tabs:
                before = len(tab.rooms[long].views)
                await tab.until(lambda: len(tab.rooms[long].views) >= before)
            await at_rest(long, tabs[0], *tabs)
        assert all(len(tab.rooms[long].views) > 1 for tab in tabs)
        check(ledger, *tabs)


async def test_redis_may_be_killed_and_come_back_empty(
    mortal: Cluster, topics: tuple[str, str]
) -> None:
    """Sockets stay, and what is broadcast meanwhile stays in its process."""
    ledger, (kept, _) = Ledger(), topics
    async with two_on_each(mortal, ledger, (kept,)) as tabs:
        ada, bob, eve, joe = tabs
        last = await burst(ada, ledger, kept, 10)
        await all_show(kept, last, *tabs)
        mortal.redis.stop(signal.SIGKILL)
        here = [(await ada.say(kept))[0] for _ in range(5)]
        there = [(await joe.say(kept))[0] for _ in range(5)]
        for tabs_of_one, numbers in (((ada, bob), here), ((eve, joe), there)):
            for tab in tabs_of_one:
                loose = tab.rooms[kept].view.loose
                await tab.until(lambda: len(loose) == 5, "waits for what is local")
                assert loose == numbers
        # who comes now can join, and can speak to those who are near
        late = await Tab("late", ledger, kept).enter(mortal.two)
        number, reply = await late.say(kept)
        assert await reply == "ok"
        for tab in (eve, joe, late):
            await tab.until(lambda: tab.rooms[kept].view.loose[-1:] == [number])
        await late.exit()

        mortal.start_redis()
        for tab in tabs:
            await tab.until(
                lambda: len(tab.rooms[kept].views) > 1
                and tab.rooms[kept].view.since is not None,
                "waits to learn of the loss",
            )
        await at_rest(kept, eve, *tabs)
        for tab in (ada, joe):
            last = await burst(tab, ledger, kept, 15)
            await all_show(kept, last, *tabs)
        check(ledger, *tabs)
        assert all(tab.is_open for tab in tabs)
        # who comes back has what it missed
        await bob.exit()
        number, _ = await joe.say(kept)
        await all_show(kept, number, eve)
        before = len(bob.rooms[kept].views)
        await bob.enter(mortal.two)
        await all_show(kept, number, bob)
        assert len(bob.rooms[kept].views) == before
        check(ledger, *tabs)
    for server in mortal.servers:
        logged = server.logged()
        assert logged.count("the state fails") == 1, logged
        assert logged.count("the state works again") == 1, logged
        # one for each time that it comes and goes: see test_presence_chaos
        assert logged.count("the channel layer fails") <= 3, logged
        # a new Redis, and whatever each of the two could not keep
        assert logged.count("broadcasts are missing in its history") <= 3, logged
        assert "the heartbeat goes on" not in logged


# --------------------------------------------------------------- somebody dies


async def test_when_a_process_dies_in_a_burst_the_others_show_what_it_kept(
    mortal: Cluster, topics: tuple[str, str]
) -> None:
    ledger, (_, long) = Ledger(), topics
    async with two_on_each(mortal, ledger, (long,)) as tabs:
        ada, bob, eve, joe = tabs
        await burst(ada, ledger, long, 4000)
        await eve.until(lambda: len(eve.rooms[long].shown) > 100)
        mortal.one.stop(signal.SIGKILL)
        for tab in (ada, bob):
            await tab.until(lambda: not tab.is_open)
            await tab.exit()
            await tab.enter(mortal.two)
        last, _ = await joe.say(long)
        await all_show(long, last, *tabs)
        nobody_lost_anything(*tabs)
        shown = joe.rooms[long].shown[:-1]
        assert 100 < len(shown) and shown == list(range(len(shown)))
        check(ledger, *tabs)
    # it begins with what the system checks say of a layer as it comes
    said = [line for line in mortal.two.logged().splitlines() if "W003" not in line]
    assert said == []


class HistoryPoller(Poller):
    """With history.js, as far as its one room goes."""

    def __init__(self, address: str, name: str, topic: str, ledger: Ledger) -> None:
        super().__init__(address, "/socket", user=name, user_id=name)
        self.name = name
        self.room = Room(self, topic, ledger, polls=True)

    def join_payload(self, topic: str, ref: str) -> dict[str, Any]:
        return self.room.joins(ref)

    def _take(self, frame: list[Any]) -> None:
        super()._take(frame)
        if frame[2] == self.room.topic:
            if frame[3] == "phx_reply" and frame[1] != self.room.join_ref:
                return
            self.room.take(frame)
            if self.room.state == "errored":
                self._send_join(self.room.topic)

    async def _session(self) -> None:
        try:
            await super()._session()
        finally:
            self.room.state = "errored"


async def test_clients_that_poll_miss_nothing_either(mortal: Cluster) -> None:
    """Their sessions die with a process, and they come back to the other one."""
    ledger = Ledger()
    topics = ["kept:polled", "masked:polled", "long:polled"]
    async with contextlib.AsyncExitStack() as stack:
        nginx = stack.enter_context(
            servers.nginx(mortal.directory, mortal.one, mortal.two)
        )
        joe = await Tab("joe", ledger, *topics).enter(mortal.two)
        stack.push_async_callback(joe.exit)
        entering = (
            stack.enter_async_context(
                HistoryPoller(nginx.address, f"poller{n}", topics[n % 3], ledger)
            )
            for n in range(6)
        )
        pollers = await asyncio.gather(*entering)
        await asyncio.gather(*(poller.join(poller.room.topic) for poller in pollers))
        homes = {poller.homes[-1] for poller in pollers}
        assert homes == {mortal.one.address, mortal.two.address}

        async def said(count: int) -> None:
            for topic in topics:
                numbers = [(await joe.say(topic))[0] for _ in range(count)]
                await all_show(topic, numbers[-1], joe)
                for room in (p.room for p in pollers if p.room.topic == topic):
                    await room.tab.until(
                        lambda: numbers[-1] in room.shown or len(room.views) > 1
                    )

        await said(10)
        dying = asyncio.create_task(said(15))
        await asyncio.to_thread(mortal.one.stop, signal.SIGKILL)
        await dying
        await said(3)
        for room in (*joe.rooms.values(), *(poller.room for poller in pollers)):
            assert len(room.views) == 1
            assert room.shown == joe.rooms[room.topic].shown
            ledger.check(room, at_rest=True)
        assert any(poller.room.recovered for poller in pollers)


async def shown(client: Client, last: int) -> list[Any]:
    """The numbers that come, up to `last`, or up to the end of the channel."""
    numbers: list[Any] = []
    async with asyncio.timeout(TIMEOUT):
        while True:
            _, _, _, event, payload = await client.receive()
            if event == "msg":
                numbers.append(payload["i"])
            if event == "phx_error" or numbers[-1:] == [last]:
                return numbers + ["lost"] * (event == "phx_error")


@pytest.mark.parametrize("layer", LAYERS)
async def test_a_redis_that_comes_back_with_what_it_had_a_while_ago_swallows_nothing(
    layer: str, tmp_path: Path
) -> None:
    """As after a crash, from its snapshot: the same epoch, and fewer broadcasts."""
    port, topic = servers.free_port(), "kept:snapshot"
    env = {"PHX_LAYER": layer, "PHX_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    env["DJANGO_SETTINGS_MODULE"] = "tests.integration.history_settings"
    with (
        servers.redis(tmp_path, port) as redis,
        servers.serve("uvicorn", tmp_path / "one", APPLICATION, **env) as one,
    ):
        async with Client(one.url, user="a") as a, Client(one.url, user="b") as b:
            for client in (a, b):
                await client.join(topic)
            for i in range(10):
                assert (await a.ask(topic, "say", {"i": i}))[0] == "ok"
                if i == 2:
                    with Redis(port=port) as there:
                        there.save()
            assert await shown(b, 9) == list(range(10))
            redis.stop(signal.SIGKILL)
            with servers.redis(tmp_path, port):
                for i in range(10, 20):
                    await a.push(topic, "say", {"i": i})
                numbers = await shown(b, 19)
    if numbers[-1] == "lost":
        numbers.pop()
        assert numbers == list(range(10, 10 + len(numbers)))
    else:
        assert numbers == list(range(10, 20))
