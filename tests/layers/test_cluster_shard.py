"""A layer on a real cluster: nothing is lost in silence, nothing arrives twice or out of order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol.layers import RedisLayer, inbox
from phx_protocol.layers.cluster_shard import ClusterShard
from phx_protocol.layers.partition import Message
from phx_protocol.layers.slots import TAGS
from tests.layers.cluster_chaos import Publisher, Subscriber, look_at
from tests.support import servers
from tests.support.redis_cluster import ON_BOTH, RedisCluster

pytestmark = ON_BOTH

GROUPS = [f"room:{n}" for n in range(30)]


class Site:
    """Two publishers and two subscribers, each with the connections of a process of its own."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.cluster = cluster
        self.subscribers = [Subscriber(cluster.url) for _ in range(2)]
        self.publishers = [Publisher(cluster.url, name) for name in "ab"]
        self._stop = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for subscriber in self.subscribers:
            await subscriber.enter(GROUPS)
        for publisher in self.publishers:
            await publisher.open()
            run = publisher.run(GROUPS, self._stop)
            self._running.append(asyncio.create_task(run))

    async def settled(self) -> None:
        """Wait until the cluster is whole, and everybody knows it."""
        await asyncio.to_thread(self.cluster.until, self.cluster.is_whole)
        await asyncio.sleep(0.5)
        await self.until(lambda: not any(s.is_cut for s in self.subscribers))

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def end(self) -> list[dict[str, int]]:
        """Stop, and look at what arrived; return the counts of each pair."""
        self._stop.set()
        await asyncio.gather(*self._running)
        await asyncio.sleep(0.5)
        return [look_at(p, s) for p in self.publishers for s in self.subscribers]

    async def close(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._running)
        for one in (*self.subscribers, *self.publishers):
            await one.layer.flush()

    def shard(self, of: Subscriber | Publisher) -> ClusterShard:
        (layer,) = of.layer._loops.values()
        (shard,) = layer.shards
        assert isinstance(shard, ClusterShard)
        return shard


@pytest.fixture
async def site(cluster: RedisCluster) -> AsyncIterator[Site]:
    await asyncio.to_thread(cluster.until, cluster.is_whole)
    site = Site(cluster)
    await site.start()
    yield site
    await site.close()


async def test_in_a_quiet_cluster_nothing_is_lost(site: Site) -> None:
    await site.until(lambda: all(s.arrived() > 2000 for s in site.subscribers))
    for counts in await site.end():
        assert counts["sent"] == counts["taken"] == counts["arrived"] > 500
    assert all(subscriber.cuts == [] for subscriber in site.subscribers)


async def test_there_is_one_connection_to_each_primary(site: Site) -> None:
    await asyncio.sleep(0.2)
    primaries = site.shard(site.subscribers[0])._primaries
    assert {place.port for place in primaries} == {*site.cluster.primaries()}
    assert all(primary.is_connected for primary in primaries.values())


async def test_a_slot_that_moves_takes_its_channels_with_it(site: Site) -> None:
    await asyncio.sleep(0.2)
    chance = random.Random(1)
    for tag in chance.sample(TAGS, 6):
        slot = key_slot(tag.encode())
        others = site.cluster.primaries().keys() - {site.cluster.primary_of(slot)}
        await asyncio.to_thread(site.cluster.migrate, slot, chance.choice([*others]))
    await site.settled()
    for counts in await site.end():
        # what a primary has not taken is sent to the next one
        assert counts["sent"] == counts["taken"]
    assert not any(publisher.errors for publisher in site.publishers)
    assert all(len(subscriber.cuts) >= 1 for subscriber in site.subscribers)


async def test_a_replica_that_takes_over_in_order_costs_publishers_nothing(
    site: Site,
) -> None:
    await asyncio.sleep(0.2)
    for primary in [*site.cluster.primaries()][:2]:
        await asyncio.to_thread(site.cluster.fail_over, primary)
        await site.settled()
    for counts in await site.end():
        assert counts["sent"] == counts["taken"]
    for subscriber in site.subscribers:
        assert 1 <= len(subscriber.cuts) and not subscriber.is_cut


async def test_a_primary_that_dies_is_replaced(site: Site) -> None:
    await asyncio.sleep(0.2)
    primary = next(iter(site.cluster.primaries()))
    replica = site.cluster.replica_of(primary)
    await asyncio.to_thread(site.cluster.kill, primary)
    await site.until(lambda: all(s.is_cut for s in site.subscribers))
    is_known = lambda: replica in site.cluster.primaries()  # noqa: E731
    await asyncio.to_thread(site.cluster.until, is_known)
    await site.until(lambda: not any(s.is_cut for s in site.subscribers))
    site.cluster.start(primary)
    await site.settled()
    await site.end()
    for publisher in site.publishers:
        assert all(isinstance(error, ConnectionError) for error in publisher.errors)


@pytest.mark.big
async def test_for_a_minute_slots_move_and_primaries_fail_over(site: Site) -> None:
    loop, chance, cluster = asyncio.get_running_loop(), random.Random(2), site.cluster
    end = loop.time() + 60
    while loop.time() < end:
        primary = chance.choice([*cluster.primaries()])
        what = chance.choice(["kill", "fail over", "migrate", "migrate"])
        if what == "kill":
            await asyncio.to_thread(cluster.kill, primary)
            gone = lambda: primary not in cluster.primaries()  # noqa: B023,E731
            await asyncio.to_thread(cluster.until, gone)
            cluster.start(primary)
        elif what == "fail over":
            await asyncio.to_thread(cluster.fail_over, primary)
        else:
            # and connections are cut, whose messages may have been taken or not
            kind = chance.choice(["normal", "pubsub"])
            cluster.client(primary).client_kill_filter(_type=kind, skipme=True)
            for tag in chance.sample(TAGS, 5):
                slot = key_slot(tag.encode())
                if (owner := cluster.primary_of(slot)) != primary:
                    await asyncio.to_thread(cluster.migrate, slot, primary)
                    assert owner != primary
        await asyncio.to_thread(cluster.until, cluster.is_whole)
        await asyncio.sleep(chance.uniform(0, 2))
    await site.settled()
    counts = await site.end()
    assert all(count["arrived"] > 10_000 for count in counts)


async def test_a_message_for_a_cluster_that_is_away_fails_and_later_ones_arrive(
    cluster: RedisCluster,
) -> None:
    layer = RedisLayer(hosts=[f"redis+cluster://127.0.0.1:{servers.free_port()}"])
    with pytest.raises(ConnectionError, match="at least one reachable node"):
        await layer.send("channel", {"type": "x"})
    with pytest.raises(ConnectionError, match="at least one reachable node"):
        await layer.new_channel()
    shard = shard_of(layer)
    shard._topology._places[:] = [("127.0.0.1", cluster.ports[0])]  # it is there now
    shard._topology._cluster = shard._topology._make()
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(ConnectionError):
                channel = await layer.new_channel()
                break
            await asyncio.sleep(0.01)
    await layer.send(channel, {"type": "x"})
    assert await layer.receive(channel) == {"type": "x"}
    await layer.flush()


def shard_of(layer: RedisLayer) -> ClusterShard:
    (shard,) = layer._here().shards
    assert isinstance(shard, ClusterShard)
    return shard


async def test_what_no_primary_takes_fails_and_holds_nothing_up(
    cluster: RedisCluster,
) -> None:
    layer = RedisLayer(hosts=[cluster.url])
    channel, shard = await layer.new_channel(), shard_of(layer)
    place = shard._of(channel.encode())
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    name = place.prefix + b"name"
    place.refused.append(Message(name, b"", refused.set_result, None))
    gone = f"MOVED {place.slot} 127.0.0.1:{servers.free_port()}"
    shard.moved(ResponseError(gone))
    assert isinstance(await asyncio.wait_for(refused, 10), ConnectionError)
    await asyncio.wait_for(layer.send(channel, {"type": "x"}), 10)
    assert await layer.receive(channel) == {"type": "x"}
    await layer.flush()


async def test_a_layer_that_is_flushed_in_the_middle_has_nothing_left(
    cluster: RedisCluster,
) -> None:
    answers: list[Any] = []
    for turns in range(6):
        layer = RedisLayer(hosts=[cluster.url])
        subscriber = Subscriber(cluster.url)
        subscriber.layer = layer
        await subscriber.enter(GROUPS)
        shard = shard_of(layer)
        for n in range(1000):
            message = {"group": GROUPS[n % 30], "by": "a", "n": n}
            subscriber.channel.publish(GROUPS[n % 30], message, answers.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        await layer.flush()
        assert len(answers) == 1000 * (turns + 1)
        await asyncio.sleep(0.3)
        assert shard._following is None and shard._held == 0
        assert not any(primary.is_connected for primary in shard._primaries.values())


async def test_a_cluster_is_not_asked_with_each_message_that_fails(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = RedisLayer(hosts=[cluster.url])
    shard, answers, asked = shard_of(layer), list[Any](), 0
    nodes = shard._topology._cluster.nodes_manager

    async def initialize() -> None:
        nonlocal asked
        asked += 1
        raise IndexError("no node has slots")  # as redis-py does then

    monkeypatch.setattr(type(nodes), "initialize", lambda self: initialize())
    began = time.monotonic()
    for _ in range(100):
        shard.publish(b"name", b"", answers.append)
        await asyncio.sleep(0.005)
    took = time.monotonic() - began
    assert 1 <= asked <= 3 + took / 0.1  # one for each 0.1 s
    await asyncio.sleep(0.3)
    assert len(answers) == 100
    assert {type(answer) for answer in answers} == {ConnectionError}
    await layer.flush()


async def test_a_channel_does_not_get_its_own_message_back(
    cluster: RedisCluster,
) -> None:
    layers = [RedisLayer(hosts=[cluster.url]) for _ in range(2)]
    heard: list[list[inbox.Message]] = [[], []]

    class Listener:
        def __init__(self, place: int) -> None:
            self.place = place

        def take(self, message: inbox.Message) -> None:
            heard[self.place].append(message)

        def disconnected(self, error: Exception) -> None: ...
        def reconnected(self) -> None: ...

    channels = []
    for place, layer in enumerate(layers):
        name = await layer.new_channel()
        channels.append(layer.deliver_to(name, Listener(place)))
        await channels[-1].groups_add(["room"])
    for n in range(100):
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channels[0].publish("room", {"n": n}, answered.set_result)
        assert await answered in (1, 2)
    async with asyncio.timeout(5):
        while len(heard[1]) < 100:
            await asyncio.sleep(0.01)
    assert heard[0] == []
    assert [message["n"] for message in heard[1]] == list(range(100))
    for layer in layers:
        await layer.flush()


async def test_a_thousand_groups_are_left_and_entered_again(
    cluster: RedisCluster,
) -> None:
    layer = RedisLayer(hosts=[cluster.url])
    channel, groups = await layer.new_channel(), [f"room:{n}" for n in range(1000)]
    for _ in range(2):
        await asyncio.gather(*(layer.group_add(group, channel) for group in groups))
        for group in groups:
            await layer.group_send(group, {"group": group})
        got = [await layer.receive(channel) for _ in groups]
        assert sorted(m["group"] for m in got) == sorted(groups)
        for group in groups:
            await layer.group_discard(group, channel)
    for group in groups[:50]:
        await layer.group_send(group, {"group": group})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.3)
    await layer.flush()
