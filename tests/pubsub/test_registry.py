"""The fan-out: who cannot be sent a broadcast, or does not take it, is left out alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from channels.testing import WebsocketCommunicator
from msgspec import Raw

from phx_protocol import Channel, EncodeError, PhoenixConsumer, Socket, abroadcast
from phx_protocol.node.node import get_node
from phx_protocol.pubsub.registry import Fastlane, Registry
from phx_protocol.testing import TestChannel, connect
from phx_protocol.wire.messages import Broadcast
from phx_protocol.wire.serializers import V1JSONSerializer, V2JSONSerializer

NOBODY: frozenset[str] = frozenset()


class Broken(V2JSONSerializer):
    """A serializer of a project, with a bug."""

    def fastlane(self, broadcast: Broadcast) -> Any:
        return {}["no such key"]


class Picky(V2JSONSerializer):
    def fastlane(self, broadcast: Broadcast) -> Any:
        raise EncodeError("never")


def odd(frame: Any) -> Any:
    raise OSError("a transport that cannot prepare it")


V1, V2, BROKEN, PICKY = V1JSONSerializer(), V2JSONSerializer(), Broken(), Picky()


class Subscriber:
    """Takes notes, or raises."""

    def __init__(self, lane: Fastlane | None, error: Exception | None = None) -> None:
        self.fastlane, self.error = lane, error
        self.got: list[Any] = []

    def write(self, frame: Any) -> None:
        if self.error is not None:
            raise self.error
        self.got.append(frame)

    deliver_broadcast = write


def same(frame: Any) -> Any:
    return frame


def on(serializer: Any, prepare: Any = same) -> Fastlane:
    return Fastlane(serializer, prepare, NOBODY)


def registry(*subscribers: Subscriber) -> Registry:
    made = Registry()
    for subscriber in subscribers:
        made.add("room:1", subscriber)
    return made


BINARY = Broadcast("room:1", "event", b"\x00\x01")
LONG = Broadcast("room:1", "e" * 256, b"\x00\x01")
LIST = Broadcast("room:1", "event", Raw(b"[1]"))
PLAIN = Broadcast("room:1", "event", Raw(b"{}"))


@pytest.mark.parametrize(
    "lane, broadcast",
    [
        (on(V1), BINARY),
        (on(BROKEN), PLAIN),
        (on(BROKEN), BINARY),
        (on(PICKY), PLAIN),
        (on(V2, odd), PLAIN),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_client_that_cannot_get_a_broadcast_is_left_out(
    lane: Fastlane, broadcast: Broadcast, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    others = [Subscriber(on(V2)), Subscriber(None), Subscriber(on(V2))]
    left_out = [Subscriber(lane) for _ in range(3)]
    room = registry(left_out[0], *others, *left_out[1:])
    assert room.fan_out(broadcast, strict=strict) == len(others)
    assert all(len(other.got) == 1 for other in others)
    assert not any(one.got for one in left_out)
    [record] = caplog.records  # and not one for each of them
    assert (
        "'event' on 'room:1' cannot be encoded for some clients" in record.getMessage()
    )


@pytest.mark.parametrize("broadcast", [LIST, LONG])
def test_a_mistake_of_the_sender_raises_an_error_for_the_sender(
    broadcast: Broadcast,
) -> None:
    client, listener = Subscriber(on(V2)), Subscriber(None)
    with pytest.raises(EncodeError):
        registry(client, listener).fan_out(broadcast)
    assert not client.got and not listener.got
    assert registry(client, listener).fan_out(broadcast, strict=False) == 1


def test_a_payload_that_only_an_old_version_carries_reaches_its_clients() -> None:
    old, new = Subscriber(on(V1)), Subscriber(on(V2))
    assert registry(old, new).fan_out(LIST) == 1
    assert old.got and not new.got


@pytest.mark.parametrize("lane", [on(V1), on(PICKY)])
def test_a_sender_gets_an_error_when_no_other_client_can_get_its_broadcast(
    lane: Fastlane,
) -> None:
    sender, other, listener = Subscriber(on(V2)), Subscriber(lane), Subscriber(None)
    room = registry(sender, other, listener)
    with pytest.raises(EncodeError):
        room.fan_out(BINARY, exclude=sender)
    assert not (sender.got or other.got or listener.got)
    assert room.fan_out(BINARY) == 2  # the sender and who listens


@pytest.mark.parametrize("lane", [on(V1), on(PICKY)])
def test_a_broadcast_from_outside_may_fit_no_client_of_this_process(
    lane: Fastlane,
) -> None:
    other, listener = Subscriber(lane), Subscriber(None)
    # those who can be sent it may be in other processes
    assert registry(other, listener).fan_out(BINARY) == 1
    assert listener.got and not other.got


@pytest.mark.parametrize("lane", [on(BROKEN), on(V2, odd)])
def test_a_serializer_with_a_bug_is_no_fault_of_the_sender(lane: Fastlane) -> None:
    assert registry(Subscriber(lane)).fan_out(BINARY) == 0


@pytest.mark.parametrize("lane", [on(V2), on(V1), None])
@pytest.mark.parametrize("sender", [None, "nobody"])
def test_a_subscriber_that_raises_keeps_the_broadcast_from_no_other(
    lane: Fastlane | None, sender: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [Subscriber(lane, ZeroDivisionError("bad")) for _ in range(3)]
    good = [Subscriber(lane) for _ in range(3)]
    room = registry(bad[0], good[0], bad[1], good[1], good[2], bad[2])
    broadcast = msgspec.structs.replace(PLAIN, sender=sender)
    room.fan_out(broadcast, exclude=good[0])
    assert [len(one.got) for one in good] == [int(sender is not None), 1, 1]
    assert "ZeroDivisionError: bad" in caplog.text


# ------------------------------------------------------------- counts for the state


def test_a_topic_that_was_never_reported_needs_no_report_of_its_end() -> None:
    room, client = Registry(), Subscriber(on(V2))
    for n in range(100):
        room.add(f"room:{n}", client)
        room.discard(f"room:{n}", client)
    assert room.take_changed() == {}
    room.add("room:1", client)
    assert room.take_changed() == {"room:1": 1} and room.take_changed() == {}
    room.discard("room:1", client)
    assert room.take_changed() == {"room:1": 0} and room.take_changed() == {}


def test_a_count_that_may_not_have_arrived_is_reported_again() -> None:
    room, client = Registry(), Subscriber(on(V2))
    room.add("room:1", client)
    room.report_again(room.take_changed())
    room.discard("room:1", client)  # they may know of it
    room.report_again(room.take_changed())
    assert room.take_changed() == {"room:1": 0} and room.take_changed() == {}


def test_after_a_loss_all_current_counts_are_reported_and_no_others() -> None:
    room, client = Registry(), Subscriber(on(V2))
    for topic in ("room:1", "room:2"):
        room.add(topic, client)
    room.take_changed()
    room.discard("room:2", client)
    room.all_changed()
    assert room.take_changed() == {"room:1": 1}


# ------------------------------------------------------------- with real clients


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    async def handle_in(self, event: str, payload: Any) -> Any:
        if event == "whisper":
            await self.broadcast_from(event, b"\x00")
        await self.broadcast(event, b"\x00\xff" if event == "binary" else [1])
        return "ok"


class HeldChannel(RoomChannel):
    intercepts = {"binary", "news"}


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel, "held:*": HeldChannel}


@pytest.fixture
async def new() -> AsyncIterator[TestChannel]:
    socket = await connect(RoomSocket)
    yield await socket.join("room:1")
    await socket.close()


@pytest.fixture
async def old() -> AsyncIterator[WebsocketCommunicator]:
    """A client of 2015, which tells no version."""
    application = PhoenixConsumer.as_asgi(RoomSocket)
    client = WebsocketCommunicator(application, "/socket/websocket")
    assert (await client.connect())[0]
    join = {"topic": "room:1", "event": "phx_join", "payload": {}, "ref": "1"}
    await client.send_to(text_data=json.dumps(join))
    assert json.loads(await client.receive_from())["payload"]["status"] == "ok"
    yield client
    await client.disconnect()


async def test_an_old_client_keeps_no_binary_broadcast_from_the_others(
    new: TestChannel, old: WebsocketCommunicator
) -> None:
    await new.assert_reply(await new.push("binary", {}), "ok")
    await new.assert_push("binary", b"\x00\xff")
    await abroadcast("room:1", "news", b"\x00")
    await new.assert_push("news", b"\x00")
    await abroadcast("room:1", "news", {"a": 1})
    assert json.loads(await old.receive_from())["payload"] == {"a": 1}


async def test_a_sender_that_crashes_on_old_clients_is_heard_in_other_processes(
    new: TestChannel, old: WebsocketCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Broadcast] = []
    node = get_node()
    monkeypatch.setattr(node.pubsub, "publish_remote", sent.append)
    await new.push("whisper", {})
    await new.assert_ended(crashed=True)
    assert [broadcast.payload for broadcast in sent] == [b"\x00"]


async def test_old_clients_alone_keep_no_binary_broadcast_from_other_processes(
    old: WebsocketCommunicator, caplog: pytest.LogCaptureFixture
) -> None:
    await abroadcast("room:1", "news", b"\x00")
    assert "a V1 client cannot be sent a binary payload" in caplog.text
    await abroadcast("room:1", "news", [1])
    assert json.loads(await old.receive_from())["payload"] == [1]


async def test_a_binary_broadcast_that_is_intercepted_ends_no_channel_of_an_old_client(
    new: TestChannel,
    old: WebsocketCommunicator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    newer = await new.socket.join("held:2")
    join = {"topic": "held:2", "event": "phx_join", "payload": {}, "ref": "2"}
    await old.send_to(text_data=json.dumps(join))
    assert json.loads(await old.receive_from())["payload"]["status"] == "ok"
    await newer.push("binary", {})
    await newer.assert_push("binary", b"\x00\xff")
    await abroadcast("held:2", "news", {"a": 1})
    assert json.loads(await old.receive_from())["payload"] == {"a": 1}
    assert "'binary' cannot be sent to one" in caplog.text
