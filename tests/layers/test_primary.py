"""One primary of a real cluster: channels that come, go, and end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError

from phx_protocol.layers.primary import PREFIX, Primary
from phx_protocol.layers.shard import Shard
from phx_protocol.layers.slots import TAGS
from tests.support import servers
from tests.support.redis_cluster import ON_BOTH, RedisCluster

pytestmark = ON_BOTH


class Owner:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        self.heard.append(("message", (channel, data, exclude)))

    def disconnected(self, shard: Any, error: Exception) -> None:
        self.heard.append(("disconnected", str(error)))

    def reconnected(self, shard: Any) -> None:
        self.heard.append(("reconnected", None))

    def has_room(self) -> None: ...

    def ended(self, channel: bytes) -> None:
        self.heard.append(("ended", channel))

    def moved(self, error: Exception) -> None:
        self.heard.append(("moved", str(error).split(" ")[0]))

    def demoted(self) -> None:
        self.heard.append(("demoted", None))

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.heard if name == kind]


@pytest.fixture
def owner() -> Owner:
    return Owner()


def names_at(cluster: RedisCluster, port: int, count: int) -> list[bytes]:
    """Channels of several slots of that primary."""
    tags = [t for t in TAGS if cluster.primary_of(key_slot(t.encode())) == port]
    return [b"{%b}%d" % (tags[n % len(tags)].encode(), n) for n in range(count)]


@pytest.fixture
async def primary(cluster: RedisCluster, owner: Owner) -> AsyncIterator[Primary]:
    await asyncio.to_thread(cluster.until, cluster.is_whole)
    primary = Primary({"host": "127.0.0.1", "port": cluster.ports[0]}, owner)
    yield primary
    await primary.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


async def subscribe(primary: Primary, names: list[bytes]) -> None:
    for name in names:
        primary.subscribe(name)
    for name in names:
        await primary.subscribed(name)


async def publish(primary: Shard, name: bytes, data: bytes) -> Any:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    primary.publish(name, data, answered.set_result)
    return await answered


async def test_channels_of_several_slots_are_subscribed_to_together(
    primary: Primary, owner: Owner, cluster: RedisCluster
) -> None:
    names = names_at(cluster, cluster.ports[0], 3000)
    await subscribe(primary, names)
    assert primary.is_connected and primary.subscriptions.are_active(names)
    assert await publish(primary, names[7], b"one") == 1
    await until(lambda: owner.of("message") == [(names[7], b"one", None)])
    for name in names:
        primary.unsubscribe(name)
    await primary.flushed()
    assert await publish(primary, names[7], b"two") == 0
    assert owner.of("ended") == []


async def test_a_slot_of_another_primary_is_refused_and_the_owner_hears_of_it(
    primary: Primary, owner: Owner, cluster: RedisCluster
) -> None:
    elsewhere = next(p for p in cluster.primaries() if p != cluster.ports[0])
    (name,) = names_at(cluster, elsewhere, 1)
    with pytest.raises(Exception, match="MOVED"):
        await subscribe(primary, [name])
    assert owner.of("moved") == ["MOVED"]
    assert str(await publish(primary, name, b"one")).startswith("MOVED")


async def test_what_follows_an_unsubscribe_that_is_refused_gets_its_own_answer(
    primary: Primary, owner: Owner, cluster: RedisCluster
) -> None:
    """Its slot has moved away: Redis ends the subscription by itself, and answers MOVED beside that."""
    port = cluster.ports[0]
    to = next(p for p in cluster.primaries() if p != port)
    gone, *rest = names_at(cluster, port, 3)
    slot = key_slot(gone)
    await subscribe(primary, [gone, *rest])
    moved = asyncio.create_task(asyncio.to_thread(cluster.migrate, slot, to))
    while not moved.done():
        primary.unsubscribe(gone)
        primary.subscribe(gone)
        assert await publish(primary, rest[0], b"one") == 1
    await moved
    primary.unsubscribe(gone)
    assert await publish(primary, rest[0], b"two") == 1
    await until(lambda: owner.of("message")[-1] == (rest[0], b"two", None))
    await asyncio.to_thread(cluster.migrate, slot, port)


async def test_a_subscription_that_redis_ends_is_told(
    primary: Primary, owner: Owner, cluster: RedisCluster
) -> None:
    port = cluster.ports[0]
    to = next(p for p in cluster.primaries() if p != port)
    gone, *rest = names_at(cluster, port, 3)
    await subscribe(primary, [gone, *rest])
    await asyncio.to_thread(cluster.migrate, key_slot(gone), to)
    await until(lambda: owner.of("ended") == [gone])
    assert not primary.subscriptions.are_active([gone])
    assert primary.subscriptions.are_active(rest)
    await asyncio.to_thread(cluster.migrate, key_slot(gone), port)


async def test_channels_are_adopted_now_or_as_soon_as_there_is_a_connection(
    primary: Primary, cluster: RedisCluster, owner: Owner
) -> None:
    names = names_at(cluster, cluster.ports[0], 20)
    assert not primary.is_connected
    primary.adopt(names[:10])
    await until(lambda: primary.subscriptions.are_active(names[:10]))
    primary.adopt(names)
    await until(lambda: primary.subscriptions.are_active(names))
    await primary.give_up(ConnectionError("for the test"))
    await until(lambda: owner.of("disconnected") == ["for the test"])
    await until(lambda: owner.of("reconnected"))
    assert primary.subscriptions.are_active(names)


async def test_a_primary_that_is_a_replica_now_stays_until_its_channels_have_moved(
    primary: Primary, cluster: RedisCluster, owner: Owner
) -> None:
    names = names_at(cluster, cluster.ports[0], 2)
    await subscribe(primary, names[:1])
    replica = await asyncio.to_thread(cluster.fail_over, cluster.ports[0])
    await until(lambda: owner.of("ended") == names[:1])
    primary.look_now()
    await until(lambda: owner.of("demoted"))
    assert primary.is_connected and owner.of("disconnected") == []
    await asyncio.to_thread(cluster.until, cluster.is_whole)
    assert await asyncio.to_thread(cluster.fail_over, replica) == cluster.ports[0]


async def test_a_node_that_is_named_as_a_server_is_noted(
    cluster: RedisCluster, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    shard = Shard({"host": "127.0.0.1", "port": cluster.ports[0]}, owner)
    assert await publish(shard, b"name", b"") == 0
    await shard.close()
    (record,) = caplog.records
    assert "begin its address with redis+cluster://" in record.getMessage()


async def test_a_node_that_is_not_there_is_tried_again(
    owner: Owner, cluster: RedisCluster
) -> None:
    primary = Primary({"host": "127.0.0.1", "port": servers.free_port()}, owner)
    (name,) = names_at(cluster, cluster.ports[0], 1)
    assert len(name) > PREFIX
    primary.adopt([name])
    with pytest.raises(ConnectionError):
        await primary.subscribed(name)
    assert not primary.is_connected and not primary.subscriptions.are_active([name])
    await primary.close()
