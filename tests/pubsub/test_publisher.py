"""The way to the layer: each topic in its order, what waits for one topic together."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from phx_protocol.exceptions import BroadcastError, EncodeError
from phx_protocol.pubsub import publisher as module
from phx_protocol.pubsub.publisher import BATCH, OUTBOX, Publisher
from phx_protocol.wire.messages import Broadcast


class Layer:
    """Takes notes of the topic and the events of each message, once it may."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.gate = asyncio.Event()
        self.error: BaseException | None = None

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        [topic] = {item["topic"] for item in message["items"]}
        self.sent.append((topic, [item["event"] for item in message["items"]]))


def broadcast(topic: str, event: str) -> Broadcast:
    return Broadcast(topic, event, msgspec.Raw(b"{}"), None, 0.0)


async def test_waiting_broadcasts_of_a_topic_travel_together() -> None:
    layer = Layer()
    publisher = Publisher(layer, "node", lambda error: None)
    first = publisher.publish(broadcast("a", "1"))
    await asyncio.sleep(0)  # the layer has it now
    taken = [first]
    for topic, event in (("b", "2"), ("a", "3"), ("c", "4"), ("b", "5"), ("a", "6")):
        taken.append(publisher.publish(broadcast(topic, event)))
    layer.gate.set()
    await asyncio.gather(*taken)
    assert layer.sent == [
        ("a", ["1"]),
        ("b", ["2", "5"]),
        ("a", ["3", "6"]),
        ("c", ["4"]),
    ]


async def test_a_topic_with_more_than_a_message_takes_lets_the_others_pass() -> None:
    layer = Layer()
    publisher = Publisher(layer, "node", lambda error: None)
    many = [publisher.publish(broadcast("loud", str(n))) for n in range(BATCH + 2)]
    quiet = publisher.publish(broadcast("quiet", "once"))
    layer.gate.set()
    await asyncio.gather(*many, quiet)
    assert [(topic, len(events)) for topic, events in layer.sent] == [
        ("loud", BATCH),
        ("quiet", 1),
        ("loud", 2),
    ]
    events = [
        event for topic, events in layer.sent if topic == "loud" for event in events
    ]
    assert events == [str(n) for n in range(BATCH + 2)]


async def test_it_is_full_while_much_waits() -> None:
    layer = Layer()
    publisher = Publisher(layer, "node", lambda error: None)
    taken = [publisher.publish(broadcast("a", str(n))) for n in range(OUTBOX)]
    assert publisher.is_full
    layer.gate.set()
    await asyncio.gather(*taken)
    assert not publisher.is_full


async def test_a_refusal_of_the_layer_is_raised_for_the_waiter_and_reported() -> None:
    layer, reports = Layer(), []
    layer.error = ConnectionError("gone")
    layer.gate.set()
    publisher = Publisher(layer, "node", reports.append)
    with pytest.raises(BroadcastError, match="gone"):
        await publisher.publish(broadcast("a", "1"))
    layer.error = None
    await publisher.publish(broadcast("a", "2"))
    assert [type(report) for report in reports] == [ConnectionError, type(None)]


@pytest.mark.parametrize("bad", ["topic", "event", "payload"])
async def test_a_broadcast_that_cannot_be_packed_is_an_error_for_its_sender_alone(
    bad: str,
) -> None:
    layer = Layer()
    publisher = Publisher(layer, "node", lambda error: None)
    first = publisher.publish(broadcast("a", "1"))
    topic = "\ud800" if bad == "topic" else "a"
    event = "\udfff" if bad == "event" else "2"
    payload = msgspec.Raw(b'{"\xff"}' if bad == "payload" else b"{}")
    with pytest.raises(EncodeError):
        publisher.publish(Broadcast(topic, event, payload))
    last = publisher.publish(broadcast("a", "3"))
    layer.gate.set()
    await asyncio.wait_for(asyncio.gather(first, last), 5)
    assert [event for _, events in layer.sent for event in events] == ["1", "3"]


async def test_a_layer_that_is_cancelled_itself_ends_no_publisher() -> None:
    layer = Layer()
    layer.error = asyncio.CancelledError()
    layer.gate.set()
    publisher = Publisher(layer, "node", lambda error: None)
    done = [publisher.publish(broadcast(topic, "1")) for topic in "ab"]
    for future in done:
        with pytest.raises(BroadcastError, match="did not take it"):
            await asyncio.wait_for(future, 5)
    layer.error = None
    await asyncio.wait_for(publisher.publish(broadcast("a", "2")), 5)


async def test_waiting_broadcasts_are_counted_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES", 1000)
    monkeypatch.setattr(module, "LIMIT", 2000)
    monkeypatch.setattr(module, "BATCH_BYTES", 500)
    layer = Layer()
    publisher = Publisher(layer, "node", lambda error: None)
    long = "é" * 250  # in the topic: it travels with each of them
    taken = [publisher.publish(broadcast(long, str(n))) for n in range(3)]
    assert publisher.is_full
    with pytest.raises(BroadcastError, match="bytes wait"):
        await publisher.publish(broadcast("a", "x" * 1000))
    layer.gate.set()
    await asyncio.gather(*taken)
    assert not publisher.is_full and len(layer.sent) == 3
