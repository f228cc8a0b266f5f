"""Signals: they report what happens, and an error of a receiver has no other effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from phx_protocol import ConnectionRefused, JoinDenied, Reason, abroadcast, signals
from phx_protocol.logs.outage import Outage
from phx_protocol.node.node import get_node
from phx_protocol.pubsub.publisher import Publisher
from phx_protocol.testing import connect
from phx_protocol.wire import json
from phx_protocol.wire.messages import Broadcast
from tests.receivers.rooms import Doors, Guests, Room
from tests.support.rooms import JOINS

Received = list[tuple[Any, dict[str, Any]]]


@pytest.fixture
def sent_by() -> Iterator[Callable[[signals.Signal], Received]]:
    """Collect what a signal sends from now on."""
    connected: list[tuple[signals.Signal, Any]] = []

    def listen(signal: signals.Signal) -> Received:
        received: Received = []

        def receive(sender: Any, **named: Any) -> None:
            del named["signal"]
            received.append((sender, named))

        signal.connect(receive, weak=False)
        connected.append((signal, receive))
        return received

    yield listen
    for signal, receive in connected:
        signal.disconnect(receive)


async def test_a_connection_sends_signals_at_its_beginning_and_end(
    sent_by: Any,
) -> None:
    begun, ended = sent_by(signals.socket_connected), sent_by(
        signals.socket_disconnected
    )
    client = await connect(Doors, {"a": "b"})
    ((sender, connected),) = begun
    assert sender is Doors
    assert connected["result"] == "ok"
    assert connected["transport"] == "websocket"
    assert connected["serializer"] == "V2JSONSerializer"
    assert connected["socket"].params["a"] == "b"
    assert 0 < connected["duration"] < 60
    assert not ended
    await client.close()
    ((sender, gone),) = ended
    assert sender is Doors
    assert gone["socket"] is connected["socket"]
    assert (gone["code"], gone["reason"]) == (1000, Reason.CLOSED)
    assert 0 <= gone["duration"] < 60


async def test_the_signal_has_the_code_with_which_we_close(sent_by: Any) -> None:
    ended = sent_by(signals.socket_disconnected)
    client = await connect(Doors)
    await client.communicator.asgi.send_input(
        {"type": "websocket.receive", "text": "{"}
    )
    await client.assert_closed(1011)
    await client.close()
    ((_, gone),) = ended
    assert (gone["code"], gone["reason"]) == (1011, Reason.CRASH)
    assert "not a V2 frame" in str(gone["exception"])


@pytest.mark.parametrize(
    ("params", "result"), [({"refuse": "1"}, "refused"), ({"crash": "1"}, "crashed")]
)
async def test_a_refused_connection_sends_a_signal(
    sent_by: Any, params: dict[str, str], result: str
) -> None:
    begun, ended = sent_by(signals.socket_connected), sent_by(
        signals.socket_disconnected
    )
    with pytest.raises(ConnectionRefused):
        await connect(Doors, params)
    assert [named["result"] for _, named in begun] == [result]
    assert not ended


@pytest.mark.parametrize(("subtopic", "result"), JOINS.items())
async def test_every_join_sends_a_signal(
    sent_by: Any, subtopic: str, result: str
) -> None:
    joined, crashed = sent_by(signals.channel_joined), sent_by(signals.channel_crashed)
    client = await connect(Doors)
    try:
        await client.join(f"room:{subtopic}", {"as": "ada"})
    except JoinDenied:
        pass
    ((sender, join),) = joined
    assert sender is Room
    assert (join["result"], join["payload"]) == (result, {"as": "ada"})
    assert join["channel"].topic == f"room:{subtopic}"
    assert 0 < join["duration"] < 60
    assert [c["event"] for _, c in crashed] == ["phx_join"] * (result == "crashed")
    await client.close()


@pytest.mark.parametrize(
    ("name", "payload", "status"),
    [
        ("say", {"body": "hi"}, "ok"),
        ("say", {"body": 1}, "error"),
        ("unknown", {}, "error"),
        ("silence", {}, None),
    ],
)
async def test_a_handled_event_sends_a_signal_with_its_answer(
    sent_by: Any, name: str, payload: Any, status: str | None
) -> None:
    handled = sent_by(signals.channel_handled_in)
    client = await connect(Doors)
    room = await client.join("room:lobby")
    ref = await room.push(name, payload)
    await room.assert_reply(await room.push("say", {"body": "the last"}), "ok")
    sender, first = handled[0]
    assert sender is Room
    assert (first["event"], first["payload"], first["ref"]) == (name, payload, ref)
    assert (first["status"], first["exception"]) == (status, None)
    assert 0 < first["duration"] < 60
    await client.close()


async def test_a_crash_is_in_three_signals(sent_by: Any) -> None:
    handled, crashed = sent_by(signals.channel_handled_in), sent_by(
        signals.channel_crashed
    )
    left = sent_by(signals.channel_left)
    client = await connect(Doors)
    room = await client.join("room:lobby")
    await room.push("crash")
    await room.assert_ended(crashed=True)
    for ((_, named),) in (handled, crashed, left):
        assert isinstance(named["exception"], ZeroDivisionError)
    assert crashed[0][1]["event"] == "crash"
    assert left[0][1]["reason"] == Reason.CRASH
    await client.close()


async def test_the_end_of_a_channel_sends_a_signal_with_its_reason(
    sent_by: Any,
) -> None:
    left = sent_by(signals.channel_left)
    client = await connect(Doors)
    rooms = [await client.join(f"room:{n}") for n in range(3)]
    await rooms[0].leave()
    await rooms[1].push("bye")
    await rooms[1].assert_ended()
    await client.close()
    reasons = {named["channel"].subtopic: named["reason"] for _, named in left}
    assert reasons == {"0": Reason.LEFT, "1": Reason.NORMAL, "2": Reason.CLOSED}
    assert all(0 <= named["duration"] < 60 for _, named in left)


async def test_a_broadcast_sends_a_signal_when_it_is_sent_and_when_it_arrives(
    sent_by: Any,
) -> None:
    sent, delivered = sent_by(signals.broadcast_sent), sent_by(
        signals.broadcast_delivered
    )
    client = await connect(Doors)
    room = await client.join("room:lobby")
    await abroadcast("room:lobby", "new", {"n": 1})
    assert await room.assert_push("new")
    assert sent == [(None, {"topic": "room:lobby", "event": "new", "size": 7})]
    ((_, arrived),) = delivered
    # the channel, and the test that listens beside it
    assert (arrived["topic"], arrived["event"], arrived["subscribers"]) == (
        "room:lobby",
        "new",
        2,
    )
    assert 0 <= arrived["latency"] < 60
    await client.close()


async def test_presences_that_come_and_go_send_signals(sent_by: Any) -> None:
    changed = sent_by(signals.presence_changed)
    first, second = await connect(Doors), await connect(Doors)
    room = await first.join("guests:1")
    await room.assert_push("presence_state")
    await (await second.join("guests:1")).assert_push("presence_state")
    while len({key for _, named in changed for key in named["joins"]}) < 2:
        await room.assert_push("presence_diff")
    await second.close()
    while not any(named["leaves"] for _, named in changed):
        await room.assert_push("presence_diff")
    assert {sender for sender, _ in changed} == {Guests}
    assert {named["topic"] for _, named in changed} == {"guests:1"}
    (gone,) = changed[-1][1]["leaves"]
    assert gone in {key for _, named in changed for key in named["joins"]}
    assert "metas" in changed[-1][1]["leaves"][gone]
    await first.close()


async def test_messages_that_the_layer_drops_send_a_signal(sent_by: Any) -> None:
    class Full(InMemoryChannelLayer):
        async def group_send(self, group: str, message: Any) -> None:
            raise OSError("away")

    dropped = sent_by(signals.messages_dropped)
    publisher = Publisher(Full(), "a node", lambda error: None)
    message = Broadcast("room:1", "new", json.encode_payload({}))
    futures = [publisher.publish(message) for _ in range(3)]
    await asyncio.wait(futures)
    assert dropped == [(None, {"count": 3, "where": "layer"})]


async def test_an_outage_sends_a_signal_when_it_begins_and_when_it_ends(
    sent_by: Any,
) -> None:
    failed, recovered = sent_by(signals.layer_failed), sent_by(signals.layer_recovered)
    outage: Outage = get_node().link.outage
    error = OSError("away")
    for report in (error, error, None, None):
        outage.report(report)
    assert failed == [(None, {"error": error})]
    ((_, end),) = recovered
    assert end["failures"] == 2
    assert 0 <= end["duration"] < 60


async def test_a_broken_receiver_hurts_nobody(
    sent_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: Any, **named: Any) -> None:
        raise RuntimeError("broken receiver")

    every = [s for s in vars(signals).values() if isinstance(s, signals.Signal)]
    for signal in every:
        signal.connect(broken, weak=False)
    try:
        client = await connect(Doors)
        room = await client.join("guests:1")
        await room.assert_reply(await room.push("say", {"body": "hi"}), "ok")
        await abroadcast("guests:1", "new", {})
        await room.assert_push("new")
        await room.push("crash")
        await room.assert_ended(crashed=True)
        await client.close()
    finally:
        for signal in every:
            signal.disconnect(broken)
    assert "broken receiver" in caplog.text


def test_an_async_receiver_is_refused_when_it_is_connected() -> None:
    async def receiver(sender: Any, **named: Any) -> None: ...

    with pytest.raises(TypeError, match="is async"):
        signals.channel_joined.connect(receiver)


def test_arguments_of_a_signal_without_receivers_are_not_computed() -> None:
    assert not signals.channel_handled_in.is_heard(Room)

    def receiver(sender: Any, **named: Any) -> None: ...

    signals.channel_handled_in.connect(receiver)
    assert signals.channel_handled_in.is_heard(Room)
    signals.channel_handled_in.disconnect(receiver)
