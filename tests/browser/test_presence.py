"""phoenix.js's own Presence in tabs of Chromium, on two processes with one Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from redis import Redis as Blocking
from redis.asyncio import Redis

from tests.browser.pages import TIMEOUT, Visit, all_logged, forget_outage
from tests.support import leases, servers
from tests.support.leases import BEAT

APPLICATION = "tests.browser.presence_app:application"
#: seconds that a busy machine may be late
SLACK = 6.0


class Cluster:
    """Two processes on one Redis; their connections there have their names."""

    def __init__(
        self, directory: Path, redis_url: str, running: contextlib.ExitStack
    ) -> None:
        self._directory = directory
        self._redis_url = redis_url
        self._running = running
        self.one = self.start("one", servers.free_port())
        self.two = self.start("two", servers.free_port())

    def start(self, name: str, port: int) -> servers.Server:
        command = servers.command("uvicorn", port, APPLICATION)
        env = {
            "PHX_REDIS_URL": f"{self._redis_url}?client_name={name}",
            "PHX_LAYER": "redis",
            "DJANGO_SETTINGS_MODULE": "tests.support.presence_settings",
        }
        log = self._directory / f"{name}.log"
        return self._running.enter_context(servers.run(command, port, log, **env))

    def kill_two(self) -> None:
        """Kill it, and end its lease."""
        self.two.stop(signal.SIGKILL)
        with Blocking.from_url(self._redis_url) as redis:
            leases.end(redis, self.two)

    def start_two_again(self) -> None:
        self.two = self.start("two-again", self.two.port)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str
) -> Iterator[Cluster]:
    with contextlib.ExitStack() as running:
        yield Cluster(tmp_path_factory.mktemp("cluster"), redis_url, running)


@pytest_asyncio.fixture(loop_scope="module")
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


# ------------------------------------------------------------------- the tabs


async def enter(
    visit: Visit, server: servers.Server, topic: str, who: str, transport: str = ""
) -> Page:
    """The tab of somebody who has joined: `who` is "ada's phone"."""
    user, _, device = who.partition("'s ")
    query = {"topic": topic, "user": user, "device": device, "transport": transport}
    page = await visit()
    await page.goto(f"http://{server.address}/?{urlencode(query)}")
    await expect(page.locator("#channel")).to_have_text("joined")
    await expect(page.locator("#opened")).to_have_text(transport or "WebSocket")
    return page


People = dict[str, list[str]]


async def expect_people(
    people: People, *tabs: Page, within: float = TIMEOUT / 1000
) -> None:
    """Every tab comes to show these keys with these metas, and all have the very same list.

    phoenix.js has the metas of a key in the order of their news.
    """
    wanted = [f"{key}: {', '.join(sorted(people[key]))}" for key in sorted(people)]
    for tab in tabs:
        shown = tab.locator("#people > li")
        await expect(shown).to_have_text(wanted, timeout=1000 * within)
    refs = await tabs[0].locator("#refs").inner_text()
    for tab in tabs:
        await expect(tab.locator("#refs")).to_have_text(refs)
    lists = [await listed(tab) for tab in tabs]
    for found in lists[1:]:
        assert found == lists[0]
    metas = {k: [_without_refs(meta) for meta in v] for k, v in lists[0].items()}
    assert metas == {
        key: [dict(zip(("device", "mood"), text.split())) for text in texts]
        for key, texts in people.items()
    }
    assert len(set(refs.split())) == sum(map(len, people.values()))


async def listed(tab: Page) -> dict[str, list[dict[str, Any]]]:
    """``presence.list()`` of phoenix.js."""
    pairs = await tab.evaluate("list()")
    found = {}
    for key, presence in pairs:
        assert presence.keys() == {"metas"}
        found[key] = presence["metas"]
    assert len(found) == len(pairs)
    return found


def _without_refs(meta: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in meta.items() if k not in ("phx_ref", "phx_ref_prev")}


async def expect_called(*tabs: Page, calls: list[list[Any]]) -> None:
    """Return the calls of phoenix.js in each tab since the last call of this."""
    for tab in tabs:
        assert await tab.evaluate("calls.splice(0)") == calls


async def leave(*tabs: Page) -> None:
    for tab in tabs:
        await all_logged(tab)
        await tab.close()


# ------------------------------------------------------------------ the visits


@pytest.mark.parametrize("transport", ["WebSocket", "LongPoll"])
async def test_every_tab_shows_the_people_who_come_change_and_go(
    transport: str, cluster: Cluster, visit: Visit
) -> None:
    topic = f"room:{transport}"
    ada = await enter(visit, cluster.one, topic, "ada's phone")
    people = {"ada": ["phone fine"]}
    await expect_people(people, ada)
    bob = await enter(visit, cluster.two, topic, "bob's desk", transport)
    people["bob"] = ["desk fine"]
    await expect_people(people, ada, bob)
    eve = await enter(visit, cluster.two, topic, "eve's watch")
    people["eve"] = ["watch fine"]
    await expect_people(people, ada, bob, eve)
    joins = [["join", key, None, people[key]] for key in ("ada", "bob", "eve")]
    await expect_called(ada, bob, eve, calls=joins)

    # a second device, on the other process
    laptop = await enter(visit, cluster.two, topic, "ada's laptop")
    people["ada"] = ["phone fine", "laptop fine"]
    await expect_people(people, ada, bob, eve, laptop)
    second = ["join", "ada", ["phone fine"], ["laptop fine"]]
    await expect_called(ada, bob, eve, calls=[second])
    await expect_called(laptop, calls=[*joins, second])

    # one of the two metas changes: a join and a leave in one diff
    tabs = [ada, bob, eve, laptop]
    diffs = [len(await tab.evaluate("diffs")) for tab in tabs]
    await laptop.evaluate("ask('feel', {mood: 'müde☕'})")
    people["ada"] = ["phone fine", "laptop müde☕"]
    await expect_people(people, *tabs)
    came = ["join", "ada", ["phone fine", "laptop fine"], ["laptop müde☕"]]
    left = ["leave", "ada", ["phone fine", "laptop müde☕"], ["laptop fine"]]
    await expect_called(*tabs, calls=[came, left])
    for tab, before in zip(tabs, diffs):
        (diff,) = (await tab.evaluate("diffs"))[before:]
        assert diff["joins"].keys() == diff["leaves"].keys() == {"ada"}
        (new,), (old,) = diff["joins"]["ada"]["metas"], diff["leaves"]["ada"]["metas"]
        assert new["phx_ref_prev"] == old["phx_ref"] != new["phx_ref"]

    await leave(laptop)
    people["ada"] = ["phone fine"]
    await expect_people(people, ada, bob, eve)
    gone = ["leave", "ada", ["phone fine"], ["laptop müde☕"]]
    await expect_called(ada, bob, eve, calls=[gone])

    await leave(bob)
    del people["bob"]
    await expect_people(people, ada, eve)
    await expect_called(ada, eve, calls=[["leave", "bob", [], ["desk fine"]]])
    for server in (cluster.one, cluster.two):
        assert server.logged() == ""


# -------------------------------------------------------------- a diff is lost


async def subscriptions(redis: Redis, name: str) -> list[str]:
    """The ids of the connections on which the layer of this process hears of the others."""
    found = await redis.client_list(_type="pubsub")
    return [client["id"] for client in found if client["name"] == name]


async def lose_a_hint(cluster: Cluster, redis: Redis, ada: Page) -> None:
    """Have ada bring a guest while the other process has no connection to hear of it."""
    async with redis.pubsub() as spy:
        await spy.psubscribe("*")
        (deaf,) = await subscriptions(redis, "two")
        # it would connect again at once
        os.killpg(cluster.two.process.pid, signal.SIGSTOP)
        try:
            await redis.client_kill_filter(_id=deaf)
            await ada.evaluate("ask('bring', {key: 'guest'})")
            async with asyncio.timeout(TIMEOUT / 1000):
                async for message in spy.listen():
                    if message["type"] == "pmessage" and b"guest" in message["data"]:
                        break
            # it is published, but nobody listens over there
            assert await subscriptions(redis, "two") == []
            assert len(await subscriptions(redis, "one")) == 1
        finally:
            os.killpg(cluster.two.process.pid, signal.SIGCONT)


async def test_a_diff_that_is_lost_between_the_processes_is_made_up_for_at_the_next_beat(
    cluster: Cluster, visit: Visit, redis: Redis
) -> None:
    topic = "room:lost"
    ada = await enter(visit, cluster.one, topic, "ada's phone")
    bob = await enter(visit, cluster.two, topic, "bob's desk")
    eve = await enter(visit, cluster.two, topic, "eve's watch", "LongPoll")
    tabs = [ada, bob, eve]
    people = {"ada": ["phone fine"], "bob": ["desk fine"], "eve": ["watch fine"]}
    await expect_people(people, *tabs)
    before = await listed(ada)
    for tab in tabs:
        await tab.evaluate("calls.length = 0")

    await lose_a_hint(cluster, redis, ada)
    with_guest = {**people, "guest": ["none shy"]}
    await expect_people(with_guest, ada)
    await expect_people(with_guest, *tabs, within=BEAT + SLACK)
    # as if nothing had been lost, and nobody seems to have come again
    await expect_called(*tabs, calls=[["join", "guest", None, ["none shy"]]])
    assert {k: v for k, v in (await listed(ada)).items() if k != "guest"} == before
    for tab in tabs:
        await expect(tab.locator("#opened")).to_have_text(re.compile(r"^\w+$"))

    async with asyncio.timeout(TIMEOUT / 1000):
        while not await subscriptions(redis, "two"):
            await asyncio.sleep(0.05)
    await ada.evaluate("ask('untrack', {key: 'guest'})")
    await expect_people(people, *tabs)
    await expect_called(*tabs, calls=[["leave", "guest", [], ["none shy"]]])
    assert cluster.one.logged() == ""
    assert "the lease of" not in cluster.two.logged()


# --------------------------------------------------------- a process is killed


async def test_the_tabs_of_a_killed_process_vanish_and_are_back_when_it_is(
    cluster: Cluster, visit: Visit, console: list[str]
) -> None:
    topic = "room:killed"
    ada = await enter(visit, cluster.one, topic, "ada's phone")
    laptop = await enter(visit, cluster.two, topic, "ada's laptop")
    bob = await enter(visit, cluster.two, topic, "bob's desk")
    eve = await enter(visit, cluster.two, topic, "eve's watch", "LongPoll")
    tabs = [ada, laptop, bob, eve]
    people = {
        "ada": ["phone fine", "laptop fine"],
        "bob": ["desk fine"],
        "eve": ["watch fine"],
    }
    await expect_people(people, *tabs)
    # what a tab has changed by then is not what it comes back with
    await bob.evaluate("ask('feel', {mood: 'tired'})")
    await expect_people({**people, "bob": ["desk tired"]}, *tabs)
    before = await listed(ada)
    for tab in tabs:
        await tab.evaluate("calls.length = 0; window.neverReloaded = true")
        await all_logged(tab)
    assert console == []

    cluster.kill_two()
    await expect_people({"ada": ["phone fine"]}, ada, within=BEAT + SLACK)
    lost = [
        ["leave", "ada", ["phone fine"], ["laptop fine"]],
        ["leave", "bob", [], ["desk tired"]],
        ["leave", "eve", [], ["watch fine"]],
    ]
    await expect_called_in_any_order(ada, calls=lost)
    for tab in (laptop, bob, eve):
        await expect(tab.locator("#connection")).to_have_text("closed")

    cluster.start_two_again()
    await expect_people(people, *tabs, within=SLACK + TIMEOUT / 1000)
    back = [
        ["join", "ada", ["phone fine"], ["laptop fine"]],
        ["join", "bob", None, ["desk fine"]],
        ["join", "eve", None, ["watch fine"]],
    ]
    await expect_called_in_any_order(ada, calls=back)
    after = await listed(ada)
    refs = {key: {meta["phx_ref"] for meta in after[key]} for key in after}
    old = {key: {meta["phx_ref"] for meta in before[key]} for key in before}
    assert (
        len(refs["ada"] & old["ada"]) == 1
    )  # the phone's, which has been there all along
    assert not refs["bob"] & old["bob"] and not refs["eve"] & old["eve"]
    for tab in tabs:
        assert await tab.evaluate("window.neverReloaded") is True
        await all_logged(tab)
    forget_outage(console)
    assert console == []

    # and everything goes on as before
    await bob.evaluate("ask('feel', {mood: 'awake'})")
    await expect_people({**people, "bob": ["desk awake"]}, *tabs)
    await ada.evaluate("ask('feel', {mood: 'glad'})")
    people = {**people, "ada": ["laptop fine", "phone glad"], "bob": ["desk awake"]}
    await expect_people(people, *tabs)
    assert cluster.one.logged() == ""
    assert cluster.two.logged() == ""


async def expect_called_in_any_order(tab: Page, calls: list[list[Any]]) -> None:
    assert sorted(await tab.evaluate("calls.splice(0)"), key=str) == calls
