"""Which servers a process publishes on and listens to, while the list of servers changes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from phx_protocol.layers import RedisLayer
from tests.layers.heard import Heard
from tests.support import servers

GROUPS = [f"room-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(servers.redis(tmp_path_factory.mktemp(f"redis{n}")))
            for n in range(3)
        ]
        yield [f"redis://127.0.0.1:{server.port}/0" for server in started]


def steps(old: list[str], new: list[str]) -> list[dict[str, Any]]:
    """The options of the layer, deploy by deploy."""
    return [
        {"hosts": old},
        {"hosts": old, "next_hosts": new},
        {"hosts": new, "previous_hosts": old},
        {"hosts": new},
    ]


async def joined(options: dict[str, Any]) -> tuple[RedisLayer, Heard]:
    """A process with these options that listens to all groups."""
    layer, heard = RedisLayer(**options), Heard()
    channel = layer.deliver_to(await layer.new_channel(), heard)
    await channel.groups_add(GROUPS)
    heard.channel = channel
    return layer, heard


@pytest.mark.parametrize("way", ["one to three", "three to one", "other servers"])
async def test_processes_of_two_deploys_hear_each_other_once_and_in_order(
    way: str, three: list[str]
) -> None:
    old, new = {
        "one to three": (three[:1], three),
        "three to one": (three, three[1:2]),
        "other servers": (three[:2], [three[2], three[0]]),
    }[way]
    for pair in itertools.pairwise(steps(old, new)):
        layers, heard = zip(*[await joined(options) for options in pair])
        for n, group, layer in itertools.product(range(3), GROUPS, layers):
            sent = {"by": layers.index(layer), "group": group, "n": n}
            await layer.group_send(group, sent)
        for one in heard:
            await one.until(lambda: len(one.messages) >= 6 * len(GROUPS))
        await asyncio.sleep(0.1)  # for what would come twice
        for one, group, by in itertools.product(heard, GROUPS, range(2)):
            got = [
                m["n"] for m in one.messages if m["group"] == group and m["by"] == by
            ]
            assert got == [0, 1, 2]
        for layer in layers:
            await layer.flush()


async def test_channels_of_one_process_are_reached_from_the_other_deploy(
    three: list[str],
) -> None:
    _, listens, writes, _ = steps(three[:1], three)
    here, there = RedisLayer(**listens), RedisLayer(**writes)
    for layer, other in ((here, there), (there, here)):
        for n in range(8):
            channel = await layer.new_channel()
            await other.send(channel, {"n": n})
            assert await asyncio.wait_for(layer.receive(channel), 10) == {"n": n}
    await here.flush()
    await there.flush()


async def test_a_server_of_both_lists_has_one_connection_whatever_its_database(
    three: list[str],
) -> None:
    """Databases mean nothing to publish and subscribe: with two connections all would come twice."""
    other_database = f"{three[0].removesuffix('/0')}/1"
    before = steps(three[:1], [other_database, *three[1:]])[1]
    layer, heard = await joined(before)
    assert len(layer._here().shards) == 3
    async with Redis.from_url(three[0]) as redis:
        names = await redis.pubsub_channels("*__group__room-*")
        assert len(names) == len(GROUPS)
        assert {count for _, count in await redis.pubsub_numsub(*names)} == {1}
    await layer.group_send("room-1", {"n": 1})
    await heard.until(lambda: heard.messages)
    assert heard.channel is not None
    for group in GROUPS:
        heard.channel.group_discard(group)
    await layer.new_channel()  # behind all that was asked
    for url in three:
        async with Redis.from_url(url) as redis:
            async with asyncio.timeout(10):
                while await redis.pubsub_channels("*__group__room-*"):
                    await asyncio.sleep(0.01)
    assert heard.messages == [{"n": 1}]
    await layer.flush()


async def test_a_next_server_that_is_away_takes_no_messages_of_those_in_use(
    three: list[str], tmp_path: Path
) -> None:
    port = servers.free_port()
    away = f"redis://127.0.0.1:{port}/0"
    layer, heard = await joined({"hosts": three[:1], "next_hosts": [away]})
    for group in GROUPS:
        await RedisLayer(hosts=three[:1]).group_send(group, {"group": group})
    await heard.until(lambda: len(heard.messages) == len(GROUPS))
    assert layer._here()._cut  # the log knows
    channel = await layer.new_channel()
    await layer.send(channel, {"n": 1})
    assert await asyncio.wait_for(layer.receive(channel), 10) == {"n": 1}
    # when it is there, it is listened to
    with servers.redis(tmp_path, port):
        async with Redis.from_url(away) as redis, asyncio.timeout(20):
            while len(await redis.pubsub_channels("*__group__room-*")) < len(GROUPS):
                await asyncio.sleep(0.05)
        await RedisLayer(hosts=[away]).group_send("room-1", {"group": "new"})
        await heard.until(lambda: {"group": "new"} in heard.messages)
        assert not layer._here()._cut
    await layer.flush()
