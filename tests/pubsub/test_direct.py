"""A node on a layer that delivers directly: at once, in order, and back again after an outage."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.test import override_settings
from redis.asyncio import Redis

from phx_protocol import History, Socket, signals
from phx_protocol.exceptions import BroadcastError, StateError
from phx_protocol.layers import shard
from phx_protocol.node.node import Node, get_node
from phx_protocol.pubsub import direct
from phx_protocol.pubsub.direct import DirectGroups, DirectLink, DirectPublisher
from phx_protocol.pubsub.groups import LINGER, Groups
from phx_protocol.pubsub.message import NODES, group_name
from phx_protocol.socket.routes import history_of
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from tests.support import servers
from tests.support.nodes import LAYERS
from tests.support.rooms import OpenRoom
from tests.support.tcp_proxy import TcpProxy


class DirectChannel:
    """What a layer gives for the channel of a node. Takes notes; answers, and has room, as the test wants."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.answers: list[Callable[[Any], None]] = []
        self.added: list[set[str]] = []
        self.discarded: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.is_full = False
        self._room = asyncio.Event()

    def publish(self, group: str, message: Any, done: Any) -> None:
        topics = {item["topic"] for item in message["items"]}
        assert {group_name(topic) for topic in topics} == {group}
        self.sent.append((*topics, [item["event"] for item in message["items"]]))
        self.answers.append(done)

    async def room(self) -> None:
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    def make_room(self) -> None:
        self.is_full = False
        self._room.set()

    def server_of(self, group: str) -> object:
        return None

    async def groups_add(self, groups: Any) -> None:
        self.added.append(set(groups))
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    def group_discard(self, group: str) -> None:
        self.discarded.append(group)


class Pacer:
    """Has room unless it is full."""

    is_full = False

    def has_room(self, size: int) -> bool:
        return not self.is_full

    async def room_for(self, size: int) -> None:
        await asyncio.sleep(0)


@pytest.fixture
async def layer() -> DirectChannel:
    return DirectChannel()


@pytest.fixture
async def reports() -> list[Any]:
    return []


@pytest.fixture
async def groups(
    layer: DirectChannel, reports: list[Any]
) -> AsyncIterator[DirectGroups]:
    groups = DirectGroups(None, reports.append)
    groups.channel = layer
    groups.connected("specific.1")
    yield groups
    groups.close()


@pytest.fixture
async def pacer() -> Pacer:
    return Pacer()


@pytest.fixture
async def publisher(
    layer: DirectChannel, reports: list[Any], pacer: Pacer
) -> DirectPublisher:
    publisher = DirectPublisher(None, "node", reports.append, pacer)
    publisher.channel = layer
    return publisher


def broadcast(topic: str, event: str) -> Broadcast:
    return Broadcast(topic, event, msgspec.Raw(b"{}"))


# ------------------------------------------------------------------------ publishing


async def test_a_broadcast_is_sent_in_the_turn_in_which_it_is_made(
    publisher: DirectPublisher, layer: DirectChannel, reports: list[Any]
) -> None:
    taken = [publisher.publish(broadcast(topic, "e")) for topic in "aab"]
    assert layer.sent == [("a", ["e"]), ("a", ["e"]), ("b", ["e"])]
    assert publisher._bytes > 0
    for answer in layer.answers:
        answer(1)
    await asyncio.gather(*taken)
    assert publisher._bytes == 0 and reports == [None, None, None]


async def test_what_has_no_answer_is_an_error_for_its_sender(
    publisher: DirectPublisher, layer: DirectChannel, reports: list[Any]
) -> None:
    taken = publisher.publish(broadcast("a", "e"))
    layer.answers[0](ConnectionError("gone"))
    with pytest.raises(BroadcastError, match="gone"):
        await taken
    assert [str(report) for report in reports] == ["gone"]


async def test_what_the_layer_cannot_serialize_is_an_error_too(
    publisher: DirectPublisher, layer: DirectChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise TypeError("no such type")

    monkeypatch.setattr(layer, "publish", refuse)
    with pytest.raises(BroadcastError, match="no such type"):
        await publisher.publish(broadcast("a", "e"))
    assert not publisher.is_full and publisher._bytes == 0


@pytest.mark.parametrize("short_of", ["layer", "pacer"])
async def test_what_must_wait_keeps_its_order_and_travels_together(
    publisher: DirectPublisher, layer: DirectChannel, pacer: Pacer, short_of: str
) -> None:
    publisher.publish(broadcast("a", "1"))
    setattr(layer if short_of == "layer" else pacer, "is_full", True)
    for topic, event in ("a2", "b3", "a4"):
        publisher.publish(broadcast(topic, event))
    assert layer.sent == [("a", ["1"])]
    layer.make_room()
    pacer.is_full = False
    last = publisher.publish(broadcast("b", "5"))
    while len(layer.answers) < 3:
        await asyncio.sleep(0)
    for answer in layer.answers:
        answer(0)
    await last
    assert layer.sent == [("a", ["1"]), ("a", ["2", "4"]), ("b", ["3", "5"])]
    publisher.publish(broadcast("c", "6"))
    assert layer.sent[3:] == [("c", ["6"])]


# ----------------------------------------------------------------------------- groups


async def test_groups_that_are_asked_for_together_are_added_together(
    groups: Groups, layer: DirectChannel
) -> None:
    await asyncio.gather(*(groups.add(topic) for topic in "abc"))
    assert layer.added == [{*map(group_name, "abc")}]
    assert all(topic in groups for topic in "abc") and groups.done == 3


async def test_no_group_waits_for_one_that_was_asked_for_before(
    groups: Groups, layer: DirectChannel
) -> None:
    layer.gate.clear()
    slow = groups.add("slow")
    await asyncio.sleep(0.01)
    layer.gate, old = asyncio.Event(), layer.gate
    layer.gate.set()
    await asyncio.wait_for(groups.add("quick"), 5)
    assert "quick" in groups and not slow.done()
    old.set()
    await slow


async def test_what_fails_is_tried_again_as_soon_as_the_layer_works(
    groups: Groups,
    layer: DirectChannel,
    reports: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer.error = ConnectionError("gone")
    added = groups.add("a")
    while len(reports) < 3:  # later and later
        await asyncio.sleep(0.01)
    monkeypatch.setattr(direct, "SOON", 1000)
    monkeypatch.setattr(direct, "LATEST", 1000)
    added_too = groups.add("b")
    while len(reports) < 5:
        await asyncio.sleep(0.01)
    layer.error = None
    groups.retry()
    await asyncio.wait_for(asyncio.gather(added, added_too), 20)
    assert "a" in groups and "b" in groups and reports[-1] is None


async def test_topics_that_come_and_go_end_as_they_are_wanted(
    groups: Groups, layer: DirectChannel
) -> None:
    await groups.add("a")
    groups.unused("a", 0)
    groups.sweep(LINGER)
    assert "a" not in groups
    await groups.add("b")
    assert layer.discarded == [group_name("a")] and len(groups) == 1
    layer.gate.clear()
    added = groups.add("c")
    await asyncio.sleep(0.01)
    groups.unused("c", 0)
    groups.sweep(LINGER)
    layer.gate.set()
    await added
    assert "c" not in groups and group_name("c") in layer.discarded
    await groups.add("c")
    assert "c" in groups


# ------------------------------------------------------------------------ with a Redis


class NewsChannel(OpenRoom):
    history = History()


class NewsSocket(Socket):
    channels = {"news:*": NewsChannel, "room:*": OpenRoom}


@contextlib.asynccontextmanager
async def node_on(*urls: str, layer: str = "redis") -> AsyncIterator[Node]:
    """A node as another process has it: on a layer of its own."""
    backend = {"BACKEND": LAYERS[layer], "CONFIG": {"hosts": [*urls]}}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        node = Node()
        node.keep_alive("the test")
    yield node
    await node.close()
    await node.link.layer.flush()


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Node]:
    async with node_on(redis_url) as node:
        assert await node.address() and isinstance(node.link, DirectLink)
        yield node


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        yield proxy


async def until(wanted: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not wanted():
            await asyncio.sleep(0.005)


async def test_a_join_is_answered_when_broadcasts_arrive_however_far_redis_is(
    other: Node, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broadcast of the other process right after it is lost in none of a thousand tries."""
    proxy.delay = 0.001
    found: list[str] = []
    async with node_on(f"redis://127.0.0.1:{proxy.port}/0") as far:
        monkeypatch.setattr(
            far.pubsub, "deliver_local", lambda b, *args: found.append(b.topic)
        )
        topics = [f"room:{n}" for n in range(1000)]
        for topic in topics:
            await far.ready(topic)
            other.pubsub.publish_remote(broadcast(topic, "e"))
        await until(lambda: len(found) == 1000)
    assert found == topics


async def test_first_joins_that_come_together_wait_for_no_other(
    proxy: TcpProxy, redis: Redis
) -> None:
    proxy.delay = 0.001
    async with node_on(f"redis://127.0.0.1:{proxy.port}/0") as node:
        await node.address()
        await redis.config_resetstat()
        await asyncio.gather(*(node.ready(f"room:{n}") for n in range(3000)))
        assert all(node.link.is_ready(f"room:{n}") for n in range(3000))
        stats = await redis.info("commandstats")
    assert stats["cmdstat_subscribe"]["calls"] < 10


async def test_an_outage_begins_and_ends_with_the_connection(
    other: Node, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def failed(error: Exception, **kwargs: Any) -> None:
        heard.append(str(error))

    def works(**kwargs: Any) -> None:
        heard.append("works")

    await other.ready("room:1")
    address = await other.address()
    signals.layer_failed.connect(failed)
    signals.layer_recovered.connect(works)
    try:
        await redis.client_kill_filter(_type="pubsub")
        await until(lambda: len(heard) == 2)
    finally:
        signals.layer_failed.disconnect(failed)
        signals.layer_recovered.disconnect(works)
    assert heard == ["Redis closed the connection", "works"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert await other.address() == address and other.link.is_ready("room:1")
    assert (await redis.pubsub_numsub(f"asgi__group__{group_name('room:1')}"))[0][
        1
    ] == 1


async def test_a_topic_that_is_joined_in_an_outage_is_connected_when_it_ends(
    proxy: TcpProxy, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "LATEST", 0.2)
    async with node_on(f"redis://127.0.0.1:{proxy.port}/0") as node:
        await node.address()
        await proxy.cut()
        await until(lambda: node.link.is_failing)
        await asyncio.wait_for(node.ready("room:1"), 1)
        with pytest.raises(BroadcastError):
            await node.link.publish(broadcast("room:1", "e"))
        await proxy.mend()
        await until(lambda: node.link.is_ready("room:1"))
        assert not node.link.is_failing
        await node.link.publish(broadcast("room:1", "e"))


async def test_a_node_finds_a_redis_that_comes_later(proxy: TcpProxy) -> None:
    await proxy.cut()
    async with node_on(f"redis://127.0.0.1:{proxy.port}/0") as node:
        await asyncio.wait_for(node.ready("room:1"), 5)
        assert await node.address() is None and node.link.is_failing
        await proxy.mend()
        await until(lambda: node.link.is_ready("room:1"))
        assert await node.address() and not node.link.is_failing


async def test_a_node_that_stops_leaves_nothing_in_redis(
    redis_url: str, redis: Redis
) -> None:
    async with node_on(redis_url) as node:
        await node.reachable()
        await node.ready("room:1")
        assert len(await redis.pubsub_channels("asgi*")) == 3
        await node.close()
        async with asyncio.timeout(20):
            while await redis.pubsub_channels("asgi*"):
                await asyncio.sleep(0.01)
        await node.ready("room:2")  # it starts again
        assert node.link.is_ready("room:2") and not node.link.is_ready(NODES)


async def test_kept_broadcasts_that_were_lost_are_read_when_it_is_back(
    other: Node, redis: Redis, redis_url: str
) -> None:
    backend = {"BACKEND": LAYERS["redis"], "CONFIG": {"hosts": [redis_url]}}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        socket = await connect(NewsSocket)
        news = await socket.join("news:1")
        for n in range(4):
            if n % 2:
                await redis.client_kill_filter(_type="pubsub")
            kept = Broadcast("news:1", "event", msgspec.Raw(b'{"n":%d}' % n))
            with contextlib.suppress(BroadcastError):
                sent = await other.pubsub.publish(kept, history_of("news:1"))
                assert sent is not None
                await sent
            await news.assert_push("event", {"n": n})
        await socket.close()
        await get_node().close()
        await get_node().link.layer.flush()


async def test_a_server_that_is_away_holds_up_no_join_on_another_one(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if both are asked in the same turn, as by a client that comes back with all of its topics."""
    with servers.redis(tmp_path) as server:
        urls = redis_url, f"redis://127.0.0.1:{server.port}/0"
        async with node_on(*urls) as node, node_on(*urls) as other:
            assert await node.address() and await other.address()
            layer = node.link.layer._here()
            here: list[str] = []
            away: list[str] = []
            for n in range(40):
                name = layer.name_of(group_name(f"room:{n}"))
                is_here = layer.shard_of(name) is layer.shards[0]
                (here if is_here else away).append(f"room:{n}")
            for topic in (here[0], away[0]):
                await node.ready(topic)
            server.stop(signal.SIGKILL)
            await until(lambda: node.link.is_failing)

            heard: list[str] = []
            monkeypatch.setattr(
                node.pubsub, "deliver_local", lambda b, *args: heard.append(b.topic)
            )
            for topic in (*here[1:], *away[1:]):
                node.link.used(topic)
            await asyncio.gather(*map(node.ready, (*here, *away)))
            assert [topic for topic in here if not node.link.is_ready(topic)] == []
            assert not any(map(node.link.is_ready, away[1:]))
            for topic in here:
                other.pubsub.publish_remote(broadcast(topic, "said"))
            await until(lambda: heard == here)
            with servers.redis(tmp_path, server.port):
                await until(lambda: all(map(node.link.is_ready, away)))


async def test_a_state_that_finds_a_replica_makes_the_layer_look(
    tmp_path: Path,
) -> None:
    """The layer would look some seconds later: a replica takes what is published, and says nothing."""
    with servers.redis(tmp_path) as server:
        async with (
            node_on(f"redis://127.0.0.1:{server.port}/0") as node,
            Redis(port=server.port) as redis,
        ):
            await node.reachable()
            await redis.replicaof("127.0.0.1", 1)
            with pytest.raises(StateError), node.heartbeat.state_call():
                raise StateError("READONLY")
            await until(lambda: node.link.is_failing, 3)
            await redis.replicaof("NO", "ONE")
            await until(lambda: not node.link.is_failing)


async def test_a_site_can_change_its_layer_one_process_after_the_other(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_on(redis_url) as new, node_on(redis_url, layer="pubsub") as old:
        found: dict[Node, list[str]] = {}
        for node in (new, old):
            events = found[node] = []
            monkeypatch.setattr(
                node.pubsub,
                "deliver_local",
                lambda b, *args, events=events: events.append(b.event),
            )
            await node.reachable()
            await node.ready("room:1")
        address = await old.address()
        assert address is not None
        new.rpc.on_call("where", lambda body: answer("new"))
        old.rpc.on_call("where", lambda body: answer("old"))
        # the old layer has subscribed when it has answered
        timeouts = {"ack_timeout": 5.0, "timeout": 5.0}
        assert await new.rpc.call(address, "where", {}, **timeouts) == {"where": "old"}
        address = await new.address()
        assert address is not None
        assert await old.rpc.call(address, "where", {}, **timeouts) == {"where": "new"}
        for n in range(100):
            new.pubsub.publish_remote(broadcast("room:1", f"new {n}"))
            old.pubsub.publish_remote(broadcast("room:1", f"old {n}"))
        await until(lambda: len(found[new]) == len(found[old]) == 100)
        assert found[new] == [f"old {n}" for n in range(100)]
        assert found[old] == [f"new {n}" for n in range(100)]


async def answer(where: str) -> dict[str, Any]:
    return {"where": where}
