"""The primaries of a cluster: which one has a slot, and who says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol.layers import topology as module
from phx_protocol.layers.server import Place, is_cluster
from phx_protocol.layers.topology import Topology
from tests.support import servers
from tests.support.redis_cluster import RedisCluster


@pytest.fixture
async def topology(cluster: RedisCluster) -> AsyncIterator[Topology]:
    topology = Topology({"address": cluster.url})
    yield topology
    await topology.close()


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("redis+cluster://10.0.0.1:6379", True),
        ("rediss+cluster://10.0.0.1:6379,10.0.0.2", True),
        ("redis://10.0.0.1:6379", False),
        ("unix:///run/redis+cluster://x", False),
    ],
)
def test_the_scheme_of_an_address_says_that_it_is_a_cluster(
    address: str, is_one: bool
) -> None:
    assert is_cluster({"address": address}) is is_one
    assert not is_cluster({"host": "10.0.0.1"})


async def test_an_address_names_nodes_a_user_and_tls() -> None:
    address = "rediss+cluster://ada:p%2Cw@one:7000,[::1]:7001,two?socket_timeout=3"
    topology = Topology({"address": address, "client_name": "web"}, timeout=1)
    assert topology._places == [("one", 7000), ("::1", 7001), ("two", 6379)]
    host = topology.host_of(Place("::1", 7001))
    assert host == {
        "address": "rediss://[::1]:7001",
        "username": "ada",
        "password": "p,w",
        "socket_timeout": 3.0,
        "client_name": "web",
    }


async def test_a_database_of_a_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match="no databases: /1"):
        Topology({"address": "redis+cluster://one/1"})


async def test_each_slot_has_a_primary(
    topology: Topology, cluster: RedisCluster
) -> None:
    await topology.refresh()
    found = {place.port for slot in range(16384) if (place := topology.place_of(slot))}
    assert found == {*cluster.primaries()} == {place.port for place in topology.places}
    assert topology.place_of(9) == ("127.0.0.1", cluster.primary_of(9))


async def test_who_asks_at_the_same_time_waits_for_one_answer(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = Topology._ask

    async def noting(self: Topology) -> None:
        nonlocal asked
        asked += 1
        await ask(self)

    monkeypatch.setattr(Topology, "_ask", noting)
    await asyncio.gather(*(topology.refresh() for _ in range(10)))
    assert asked == 1
    await topology.refresh()
    assert asked == 2


async def test_moved_is_newer_than_what_other_nodes_say_for_a_while(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topology.refresh()
    before = topology.place_of(9)
    topology.note(ResponseError("MOVED 9 10.0.0.9:7009"))
    await topology.refresh()
    assert topology.place_of(9) == Place("10.0.0.9", 7009)
    assert topology.place_of(10) == before
    monkeypatch.setattr(module, "FRESH", 0.0)
    topology.note(ResponseError("MOVED 9 10.0.0.9:7009"))
    assert topology.place_of(9) == before


async def test_moved_to_the_host_that_was_asked_names_none(topology: Topology) -> None:
    await topology.refresh()
    before = topology.place_of(9)
    topology.note(ResponseError("MOVED 9 :7009"))
    assert topology.place_of(9) == before


async def test_the_ports_of_a_tunnel_are_those_of_the_settings(
    cluster: RedisCluster,
) -> None:
    def remapped(address: tuple[str, int]) -> tuple[str, int]:
        return "127.0.0.2", address[1]

    topology = Topology({"address": cluster.url, "address_remap": remapped})
    await topology.refresh()
    assert {place.host for place in topology.places} == {"127.0.0.2"}
    topology.note(ResponseError("MOVED 9 10.0.0.9:7009"))
    assert topology.place_of(9) == Place("127.0.0.2", 7009)
    assert "address_remap" not in topology.host_of(Place("127.0.0.2", 7009))
    await topology.close()


async def test_a_server_that_is_no_cluster_says_so(redis_url: str) -> None:
    topology = Topology({"address": redis_url.replace("redis:", "redis+cluster:")})
    with pytest.raises(ConnectionError, match="Cluster mode is not enabled"):
        await topology.refresh()
    assert topology.place_of(9) is None and topology.places == set()
    await topology.close()


async def test_when_all_that_were_found_are_gone_it_begins_with_the_first(
    cluster: RedisCluster, topology: Topology
) -> None:
    await topology.refresh()
    gone = ClusterNode("127.0.0.1", servers.free_port())
    topology._cluster.nodes_manager.startup_nodes = {gone.name: gone}
    with pytest.raises(ConnectionError, match="at least one reachable node"):
        await topology.refresh()
    await topology.refresh()
    assert {place.port for place in topology.places} == {*cluster.primaries()}
