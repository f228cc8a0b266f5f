"""How long changes in the database took to get here."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from phx_protocol.introspection import LatencyInfo, alatencies
from phx_protocol.node.node import get_node
from phx_protocol.pubsub import message
from phx_protocol.pubsub.latencies import EACH, TOPICS, Latencies
from phx_protocol.signals import change_delivered
from phx_protocol.wire.messages import Broadcast


class Subscriber:
    fastlane = None

    def deliver_broadcast(self, broadcast: Broadcast) -> None: ...


def changed(seconds: float, unsent: float = 0.0) -> Broadcast:
    """A broadcast whose change was committed so many seconds ago."""
    then = time.time() - seconds
    raw = msgspec.Raw(b"{}")
    return Broadcast("room:1", "said", raw, None, then + unsent, committed_at=then)


async def test_a_change_that_reaches_clients_is_measured_and_told_of() -> None:
    node, told = get_node(), list[Any]()
    node.start_heartbeats()
    await node.heartbeat.ready()

    def note(**kwargs: Any) -> None:
        told.append(kwargs)

    change_delivered.connect(note)
    node.pubsub.subscribe("room:1", Subscriber())
    try:
        node.pubsub.deliver_local(changed(5.0, unsent=2.0))
        found = await alatencies("room:1")
    finally:
        change_delivered.disconnect(note)
        await node.close()
    (signal,) = told
    assert (signal["topic"], signal["event"]) == ("room:1", "said")
    assert 5 <= signal["latency"] < 60 and 1.9 < signal["unsent"] < 2.1
    assert found is not None and found.count == 1 and 5 <= found.p99 < 60


async def test_what_nobody_gets_and_what_tells_of_no_change_is_not_measured() -> None:
    node = get_node()
    node.pubsub.deliver_local(changed(5.0))  # nobody has joined
    node.pubsub.subscribe("room:1", Subscriber())
    node.pubsub.deliver_local(Broadcast("room:1", "said", msgspec.Raw(b"{}")))
    assert await alatencies("room:1") is None
    await node.close()


async def test_a_message_to_other_processes_says_when_the_change_was_committed() -> (
    None
):
    sent = changed(5.0)
    (taken,) = message.unpack(message.pack([message.pack_item(sent)], "another"))
    assert taken.committed_at == sent.committed_at
    plain = Broadcast("room:1", "said", msgspec.Raw(b"{}"))
    assert "committed" not in message.pack_item(plain)


def test_only_the_last_ones_are_kept_and_of_the_topics_that_changed_last() -> None:
    latencies = Latencies()
    for n in range(EACH + 5):
        latencies.add("busy", float(n))
    assert latencies.of("busy") == [float(n) for n in range(5, EACH + 5)]
    for n in range(TOPICS):
        latencies.add(f"topic:{n}", 1.0)
    assert latencies.of("busy") == [] and latencies.of("topic:0") == [1.0]


def test_percentiles_are_those_of_the_latencies_that_there_are() -> None:
    assert LatencyInfo.of([]) is None
    assert LatencyInfo.of([3.0]) == LatencyInfo(1, 3.0, 3.0, 3.0, 3.0)
    found = LatencyInfo.of([float(n) for n in range(100, 0, -1)])
    assert found == LatencyInfo(100, 50.0, 95.0, 99.0, 100.0)
