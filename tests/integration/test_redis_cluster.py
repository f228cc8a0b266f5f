"""Two processes on a Redis Cluster: what clients see when slots move and primaries die."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis.crc import key_slot

from phx_protocol.layers.slots import TAGS
from tests.integration import history_tab, test_presence_chaos
from tests.integration.history_tab import Ledger, at_rest, tabs_of
from tests.integration.test_presence_chaos import SLACK, open_tabs, show
from tests.support import servers
from tests.support.redis_cluster import RedisCluster

#: seconds within which a replica takes over, by a slow machine's clock
TAKES_OVER = 10.0
TOPICS = [f"kept:cluster{n}" for n in range(6)]


@contextlib.contextmanager
def two(
    folder: Path, cluster: RedisCluster, application: str, settings: str
) -> Iterator[Sequence[servers.Server]]:
    env = {"PHX_LAYER": "redis", "PHX_REDIS_URL": cluster.url}
    env["DJANGO_SETTINGS_MODULE"] = settings
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                servers.serve("frames", folder / f"{n}.log", application, **env)
            )
            for n in range(2)
        ]


async def kill_one(cluster: RedisCluster, port: int) -> None:
    """Kill a primary, and let it come back as a replica when another one has taken over."""
    await asyncio.to_thread(cluster.kill, port)
    await asyncio.to_thread(cluster.until, lambda: port not in cluster.primaries())
    await asyncio.to_thread(cluster.start, port)
    await asyncio.to_thread(cluster.until, cluster.is_whole)


async def something_happens(cluster: RedisCluster, chance: random.Random) -> None:
    primary = chance.choice([*cluster.primaries()])
    what = chance.choice(["kill", "fail over", "migrate"])
    if what == "kill":
        await kill_one(cluster, primary)
    elif what == "fail over":
        await asyncio.to_thread(cluster.fail_over, primary)
    else:
        for tag in chance.sample(TAGS, 4):
            slot = key_slot(tag.encode())
            if cluster.primary_of(slot) != primary:
                await asyncio.to_thread(cluster.migrate, slot, primary)
    await asyncio.to_thread(cluster.until, cluster.is_whole)


@pytest.mark.parametrize(
    "times", [1, pytest.param(8, marks=pytest.mark.big)], ids=["once", "often"]
)
async def test_clients_of_a_history_miss_nothing_or_learn_of_it(
    times: int, cluster: RedisCluster, tmp_path: Path
) -> None:
    settings, ledger = "tests.integration.history_settings", Ledger()
    chance = random.Random(times)
    with two(tmp_path, cluster, history_tab.APPLICATION, settings) as (one, other):
        named = ("ada", one), ("bob", one), ("eve", other), ("joe", other)
        async with tabs_of(ledger, *named, topics=tuple(TOPICS)) as tabs:

            async def talk() -> None:
                while True:
                    for topic in TOPICS:
                        await chance.choice(tabs).say(topic)
                    await asyncio.sleep(0.05)

            talking = asyncio.create_task(talk())
            await asyncio.sleep(0.5)
            primary = next(iter(cluster.primaries()))
            if times == 1:
                await kill_one(cluster, primary)
            for _ in range(times - 1):
                await something_happens(cluster, chance)
                await asyncio.sleep(chance.uniform(0, 2))
            talking.cancel()
            await asyncio.sleep(1)
            for topic in TOPICS:
                await at_rest(topic, tabs[0], *tabs)
            shown = 0
            for tab in tabs:
                for room in tab.rooms.values():
                    ledger.check(room, at_rest=True)
                    shown += len(room.shown)
            assert shown > 100 * times
            for server in (one, other):
                assert "Traceback" not in server.logged()


async def test_presence_lists_are_right_again_soon_after_a_primary_died(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    application = test_presence_chaos.APPLICATION
    settings = "tests.support.presence_settings"
    with two(tmp_path, cluster, application, settings) as (one, other):
        async with contextlib.AsyncExitStack() as stack:
            seats = (one, "ada", "phone"), (other, "bob", "laptop"), (one, "eve", "tv")
            tabs = await open_tabs(stack, *seats)
            wanted = {"ada": ["phone"], "bob": ["laptop"], "eve": ["tv"]}
            await show(wanted, *tabs, within=SLACK)
            for primary in [*cluster.primaries()][:2]:
                await kill_one(cluster, primary)
                # whoever comes and goes meanwhile or after that is seen
                (joe,) = await open_tabs(stack, (other, "joe", "phone"))
                both = {**wanted, "joe": ["phone"]}
                await show(both, *tabs, joe, within=TAKES_OVER + SLACK)
                await joe.exit()
                await show(wanted, *tabs, within=TAKES_OVER + SLACK)
            assert "Traceback" not in one.logged() + other.logged()
