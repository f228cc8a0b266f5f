"""Calls of a state to a real cluster: they find their primary, also while it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol import StateError
from phx_protocol.layers.slots import TAGS
from phx_protocol.state.cluster_client import ClusterClient
from phx_protocol.state.redis import RedisState
from phx_protocol.state.scripts import Script
from tests.support import servers
from tests.support.redis_cluster import ON_BOTH, RedisCluster
from tests.support.state import connected, forget

pytestmark = ON_BOTH

NAMES = [f"{{{tag}}}key" for tag in TAGS]
SET = Script.of("redis.call('SET', KEYS[1], ARGV[1]); return KEYS[2]")


@pytest.fixture
async def client(cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    client = ClusterClient({"address": cluster.url}, 5)
    yield client
    await client.close()


@pytest.fixture
async def state(cluster: RedisCluster) -> AsyncIterator[RedisState]:
    state = connected(cluster.url)
    yield state
    forget(state)
    await state.close()


async def test_each_call_goes_to_the_primary_of_its_key(client: ClusterClient) -> None:
    both = [[name, f"{name}2"] for name in NAMES]
    calls = [client.eval(SET, keys, [keys[0]]) for keys in both]
    assert await asyncio.gather(*calls) == [keys[1].encode() for keys in both]
    found = await asyncio.gather(*(client.call("GET", name) for name in NAMES))
    assert found == [name.encode() for name in NAMES]
    assert len(client._clients) == 3


async def test_an_error_of_a_script_is_that_of_the_call(client: ClusterClient) -> None:
    with pytest.raises(ResponseError, match="unknown command"):
        await client.call("NONSENSE", NAMES[0])


async def test_all_primaries_are_asked(
    client: ClusterClient, cluster: RedisCluster
) -> None:
    found = await client.everywhere("CONFIG", "GET", "port")
    assert {int(one[b"port"]) for one in found} == {*cluster.primaries()}


async def test_a_slot_that_has_moved_is_followed(
    client: ClusterClient, cluster: RedisCluster
) -> None:
    name = NAMES[5]
    await client.call("SET", name, "1")
    slot = key_slot(name.encode())
    owner = cluster.primary_of(slot)
    to = next(port for port in cluster.primaries() if port != owner)
    await asyncio.to_thread(cluster.migrate, slot, to)
    assert await client.call("GET", name) == b"1"
    place = client._topology.place_of(slot)
    assert place is not None and place.port == to
    await asyncio.to_thread(cluster.migrate, slot, owner)
    assert await client.call("GET", name) == b"1"


async def test_a_call_waits_while_its_slot_is_on_its_way(
    client: ClusterClient, cluster: RedisCluster
) -> None:
    keys = [f"{{{TAGS[7]}}}one", f"{{{TAGS[7]}}}two"]
    await client.eval(SET, keys, ["1"])
    slot = key_slot(keys[0].encode())
    owner = cluster.primary_of(slot)
    to = next(port for port in cluster.primaries() if port != owner)
    cluster.begin_migration(slot, to)
    # one of the keys does not exist: no primary can serve both
    called = asyncio.create_task(client.eval(SET, keys, ["2"]))
    await asyncio.sleep(0.3)
    assert not called.done()
    await asyncio.to_thread(cluster.migrate, slot, to)
    assert await called == keys[1].encode()
    assert await client.call("GET", keys[0]) == b"2"


async def test_a_call_that_waits_in_vain_gets_the_error(
    cluster: RedisCluster,
) -> None:
    client = ClusterClient({"address": cluster.url}, 0.3)
    keys = [f"{{{TAGS[9]}}}one", f"{{{TAGS[9]}}}two"]
    await client.eval(SET, keys, ["1"])
    slot = key_slot(keys[0].encode())
    owner = cluster.primary_of(slot)
    to = next(port for port in cluster.primaries() if port != owner)
    cluster.begin_migration(slot, to)
    try:
        with pytest.raises(ConnectionError, match="TRYAGAIN"):
            await client.eval(SET, keys, ["2"])
    finally:
        cluster.stay(slot)
        await client.close()


async def test_a_cluster_that_is_away_is_an_error_and_is_found_when_it_is_there(
    cluster: RedisCluster,
) -> None:
    nowhere = f"redis+cluster://127.0.0.1:{servers.free_port()}"
    client = ClusterClient({"address": nowhere}, 5)
    with pytest.raises(ConnectionError, match="at least one reachable node"):
        await client.call("GET", NAMES[0])
    await client.close()


async def test_a_node_that_is_named_as_a_server_is_told_from_one(
    cluster: RedisCluster,
) -> None:
    state = connected(f"redis://127.0.0.1:{cluster.ports[0]}")
    with pytest.raises(StateError, match=r"begins with redis\+cluster://"):
        await state.lacks()
    with pytest.raises(StateError, match=r"begins with redis\+cluster://"):
        for n in range(40):
            await state.entries(f"room:{n}")
    await state.close()


async def test_the_state_outlives_a_primary_that_dies(
    state: RedisState, cluster: RedisCluster
) -> None:
    groups = [f"room:{n}" for n in range(40)]
    await state.beat("a", {}, first=True)
    for group in groups:
        await state.change(group, "a", {"ref": b"{}"}, [])
    primary = next(iter(cluster.primaries()))
    replica = cluster.replica_of(primary)
    # what was written has arrived at the replica
    await asyncio.to_thread(cluster.client(primary).wait, 1, 5000)
    await asyncio.to_thread(cluster.kill, primary)
    is_known = lambda: replica in cluster.primaries()  # noqa: E731
    await asyncio.to_thread(cluster.until, is_known)
    async with asyncio.timeout(10):
        while True:
            try:
                found = [await state.entries(group) for group in groups]
                break
            except Exception:
                await asyncio.sleep(0.1)
    assert [entries for _, entries in found] == [{"ref": b"{}"}] * len(groups)
    cluster.start(primary)
    await asyncio.to_thread(cluster.until, cluster.is_whole)
