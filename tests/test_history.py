"""History: a client that comes back gets what it missed, as it would have got it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol import (
    Channel,
    EncodeError,
    History,
    Socket,
    abroadcast,
    abroadcast_from,
    event,
    local_broadcast,
)
from phx_protocol.exceptions import StateError, StateRefused, StateTimeout
from phx_protocol.history.policy import ALL_EVENTS, queued_events
from phx_protocol.history.recovery import Recovery, RecoveryRequest
from phx_protocol.history.streams import BROKEN, READS
from phx_protocol.node.node import Node, get_node
from phx_protocol.pubsub import message
from phx_protocol.state import Position
from phx_protocol.state.memory import MemoryState
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from phx_protocol.wire.serializers import V2JSONSerializer
from tests.state import item


class Room(Channel):
    history = History(size=5, ttl=60, events={"msg"})

    async def join(self, payload: Any) -> Any:
        return "error" if payload.get("deny") else ("ok", {"room": self.subtopic})

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast_from("msg", payload)
        return "ok"

    @event("unkeepable")
    async def unkeepable(self, payload: Any) -> Any:
        with pytest.raises(EncodeError, match="must be a mapping"):
            await self.broadcast("msg", [1])
        return "ok"


class Secretive(Room):
    """Withholds what is secret, and rewrites the rest."""

    history = History(size=5, ttl=60)
    intercepts = {"msg"}
    gate: asyncio.Event | None = None

    async def handle_out(self, event: str, payload: Any) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if payload.get("crash"):
            raise RuntimeError("crash")
        if payload.get("renamed"):
            await self.push("renamed", {})
        elif not payload.get("secret"):
            await self.push(event, {**payload, "for": self.subtopic})


class Plain(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class HistorySocket(Socket):
    channels = {"room:*": Room, "secret:*": Secretive, "plain": Plain}


Connect = Any
#: of a client that has nothing yet, and knows what an offset is
CLAIM: dict[str, Any] = {"history": {}}
FIELDS = ("join_ref", "ref", "topic", "event", "payload")


@pytest.fixture
async def client() -> AsyncIterator[Connect]:
    """Opens connections, and closes them at the end."""
    opened: list[Connected] = []

    async def open(vsn: str = "2.0.0") -> Connected:
        opened.append(await connect(HistorySocket, {"vsn": vsn}))
        return opened[-1]

    yield open
    for connected in opened:
        await connected.close()


async def come_back(client: Connect, topic: str, history: Any) -> tuple[Connected, Any]:
    """A new connection that joins with what it says it has; and the answer of the join."""
    socket = await client()
    channel = await socket.join(topic, {"history": history})
    return socket, channel.reply["history"]


async def frames(socket: Connected, topic: str, count: int) -> list[list[Any]]:
    """The next broadcasts and pushes on `topic`."""
    return [await socket._take(lambda f: f[2] == topic) for _ in range(count)]


async def test_the_offset_travels_in_the_ref_of_a_broadcast(client: Connect) -> None:
    socket = await client()
    room = await socket.join("room:first", CLAIM)
    epoch, n = Position.parse(room.reply["history"]["offset"]) or ("", -1)
    assert n == 0
    await abroadcast("room:first", "msg", {"i": 1})
    await abroadcast("room:first", "msg", {"i": 2})
    assert await frames(socket, "room:first", 2) == [
        [None, f"{epoch}-1", "room:first", "msg", {"i": 1}],
        [None, f"{epoch}-2", "room:first", "msg", {"i": 2}],
    ]


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_a_client_that_makes_no_claim_gets_a_null_ref(
    client: Connect, vsn: str
) -> None:
    """Strict clients (Slipstream, the one for Rust) drop a broadcast that has one."""
    socket = await client(vsn)
    refs: list[Any] = []

    async def said() -> Any:
        message = await socket.line.communicator.receive_output()
        frame = json.loads(message["text"])
        return frame if isinstance(frame, dict) else dict(zip(FIELDS, frame))

    async def join(topic: str) -> None:
        frame = ["1", "1", topic, "phx_join", {}]
        if vsn == "1.0.0":
            frame = dict(zip(FIELDS, frame))  # type: ignore[assignment]
        await socket.line.communicator.send_input(
            {"type": "websocket.receive", "text": json.dumps(frame)}
        )
        assert (await said())["payload"]["status"] == "ok"

    for topic in ("room:strict", "secret:strict"):
        await join(topic)
        await abroadcast(topic, "msg", {"i": 1})
        refs.append((await said())["ref"])
    assert refs == [None, None]


async def test_clients_with_and_without_a_claim_are_told_apart(client: Connect) -> None:
    knows, strict = await client(), await client()
    await knows.join("room:both", CLAIM)
    await strict.join("room:both")
    await abroadcast("room:both", "msg", {"i": 1})
    assert (await frames(knows, "room:both", 1))[0][1].endswith("-1")
    assert (await frames(strict, "room:both", 1))[0][1] is None


async def test_an_offset_is_no_ref_of_a_heartbeat(client: Connect) -> None:
    """phoenix.js takes any frame whose ref is that of its heartbeat for the answer."""
    room = await (await client()).join("room:heart", CLAIM)
    epoch = room.reply["history"]["offset"].partition("-")[0]
    assert epoch[0].isalpha()


async def test_what_is_not_kept_has_no_offset(client: Connect) -> None:
    socket = await client()
    await socket.join("room:b", CLAIM)
    await abroadcast("room:b", "other", {})
    await local_broadcast("room:b", "msg", {})
    await abroadcast("room:b", "msg", b"binary")
    got = await frames(socket, "room:b", 3)
    assert [frame[:2] for frame in got] == [[None, None]] * 3


async def test_a_client_that_was_away_gets_what_it_missed_in_order(
    client: Connect,
) -> None:
    socket = await client()
    offset = (await socket.join("room:c", CLAIM)).reply["history"]["offset"]
    await socket.close()
    for i in range(3):
        await abroadcast("room:c", "msg", {"i": i})
    socket, history = await come_back(client, "room:c", {"offset": offset})
    assert history["recovered"] is True
    assert history["offset"].endswith("-3")
    await abroadcast("room:c", "msg", {"i": 3})
    got = await frames(socket, "room:c", 4)
    assert [frame[4]["i"] for frame in got] == [0, 1, 2, 3]
    assert [frame[1].rpartition("-")[2] for frame in got] == ["1", "2", "3", "4"]


async def test_who_missed_nothing_gets_nothing(client: Connect) -> None:
    await abroadcast("room:d", "msg", {"i": 0})
    socket = await client()
    offset = (await socket.join("room:d", CLAIM)).reply["history"]["offset"]
    socket, history = await come_back(client, "room:d", {"offset": offset})
    assert history["recovered"] is True
    await abroadcast("room:d", "msg", {"i": 1})
    assert (await frames(socket, "room:d", 1))[0][4] == {"i": 1}


async def test_a_first_join_recovers_nothing(client: Connect) -> None:
    await abroadcast("room:e", "msg", {"i": 0})
    socket = await client()
    room = await socket.join("room:e", CLAIM)
    assert room.reply["history"]["recovered"] is False
    assert room.reply["room"] == "e"  # what join said is there as well
    await abroadcast("room:e", "msg", {"i": 1})
    assert (await frames(socket, "room:e", 1))[0][4] == {"i": 1}


async def test_who_was_away_too_long_is_told_so(client: Connect) -> None:
    socket = await client()
    offset = (await socket.join("room:f", CLAIM)).reply["history"]["offset"]
    for i in range(6):  # one more than are kept
        await abroadcast("room:f", "msg", {"i": i})
    socket, history = await come_back(client, "room:f", {"offset": offset})
    assert history["recovered"] is False
    await abroadcast("room:f", "msg", {"i": 6})
    assert (await frames(socket, "room:f", 1))[0][4] == {"i": 6}


@pytest.mark.parametrize(
    "offset", [None, 7, "", "e1", "e1-", "-1", "e1--1", "e1-²", "nowhere-3", ["e1-1"]]
)
async def test_an_offset_that_is_none_recovers_nothing(
    client: Connect, offset: Any
) -> None:
    _, history = await come_back(client, "room:g", {"offset": offset})
    assert history["recovered"] is False


async def test_an_offset_of_the_future_recovers_nothing(client: Connect) -> None:
    socket = await client()
    offset = (await socket.join("room:future", CLAIM)).reply["history"]["offset"]
    epoch = offset.rpartition("-")[0]
    _, history = await come_back(client, "room:future", {"offset": f"{epoch}-9"})
    assert history["recovered"] is False
    assert history["offset"] == offset


async def test_a_client_is_not_told_again_what_it_sent_itself(client: Connect) -> None:
    socket = await client()
    room = await socket.join("room:h", CLAIM)
    first = room.reply["history"]
    await room.assert_reply(await room.push("whisper", {"by": "me"}), "ok")
    await abroadcast("room:h", "msg", {"by": "another"})
    await socket.close()
    claim = {"offset": first["offset"], "senders": [first["sender"]]}
    socket, history = await come_back(client, "room:h", claim)
    assert history["recovered"] is True
    assert [f[4] for f in await frames(socket, "room:h", 1)] == [{"by": "another"}]


async def test_a_denied_join_is_told_nothing(client: Connect) -> None:
    await abroadcast("room:i", "msg", {"i": 0})
    socket = await client()
    await socket.send(
        ["1", "1", "room:i", "phx_join", {"deny": 1, "history": {"offset": "e-0"}}]
    )
    reply = await socket._take(lambda f: f[3] == "phx_reply")
    assert reply[4] == {"status": "error", "response": {}}


async def test_a_channel_without_a_history_says_nothing_of_it(client: Connect) -> None:
    socket = await client()
    assert (await socket.join("plain", {"history": {}})).reply == {}


async def test_what_cannot_be_kept_is_refused_before_it_is(client: Connect) -> None:
    socket = await client()
    room = await socket.join("room:j", CLAIM)
    await room.assert_reply(await room.push("unkeepable"), "ok")
    _, history = await come_back(
        client, "room:j", {"offset": room.reply["history"]["offset"]}
    )
    assert history["offset"] == room.reply["history"]["offset"]


@pytest.mark.parametrize("topic", ["room:ok", "room:\ud800"])
async def test_what_is_no_unicode_is_an_error_and_holds_up_nobody(
    client: Connect, topic: str
) -> None:
    await (await client()).join("room:ok", CLAIM)
    sender = "\ud800" if topic == "room:ok" else "s"
    with pytest.raises(EncodeError):
        await asyncio.wait_for(abroadcast_from(sender, topic, "msg", {}), 5)
    await asyncio.wait_for(abroadcast("room:ok", "msg", {}), 5)


async def test_a_replay_passes_handle_out_as_live_broadcasts_do(
    client: Connect,
) -> None:
    socket = await client()
    room: Joined = await socket.join("secret:x", CLAIM)
    offset = room.reply["history"]["offset"]
    for payload in ({"i": 1}, {"secret": True}, {"i": 3}):
        await abroadcast("secret:x", "msg", payload)
    live = await frames(socket, "secret:x", 2)
    await socket.close()
    socket, history = await come_back(client, "secret:x", {"offset": offset})
    assert history["recovered"] is True
    replayed = await frames(socket, "secret:x", 2)
    # pushes carry the join_ref; the offset is where it would be in a broadcast
    assert [f[1:] for f in replayed] == [f[1:] for f in live]
    assert [f[4] for f in replayed] == [{"i": 1, "for": "x"}, {"i": 3, "for": "x"}]
    assert replayed[1][1].endswith("-3")


async def test_what_handle_out_makes_of_a_broadcast_has_its_offset_whatever_its_name(
    client: Connect,
) -> None:
    socket = await client()
    await socket.join("secret:renamed", CLAIM)
    await abroadcast("secret:renamed", "msg", {"renamed": True})
    ((_, offset, *_),) = await frames(socket, "secret:renamed", 1)
    assert offset.endswith("-1")
    back, history = await come_back(client, "secret:renamed", {"offset": offset})
    assert history["recovered"] is True
    await abroadcast("secret:renamed", "msg", {"i": 2})
    assert (await frames(back, "secret:renamed", 1))[0][4]["i"] == 2


async def test_what_is_intercepted_and_what_is_not_keep_their_order(
    client: Connect,
) -> None:
    """A client that has the third has the second too, however long handle_out takes."""
    socket = await client()
    offset = (await socket.join("secret:y", CLAIM)).reply["history"]["offset"]
    gate = Secretive.gate = asyncio.Event()
    try:
        await abroadcast("secret:y", "msg", {"i": 1})
        await abroadcast("secret:y", "other", {"i": 2})
        await abroadcast("secret:y", "msg", {"i": 3})
        back, _ = await come_back(client, "secret:y", {"offset": offset})
        await abroadcast("secret:y", "other", {"i": 4})
    finally:
        gate.set()
        Secretive.gate = None
    for connected in (socket, back):
        got = await frames(connected, "secret:y", 4)
        assert [f[4]["i"] for f in got] == [1, 2, 3, 4]
        assert [f[1].rpartition("-")[2] for f in got] == ["1", "2", "3", "4"]


async def test_what_handle_out_crashes_on_is_left_out_of_a_replay(
    client: Connect,
) -> None:
    """Else the client would never get past it: every rejoin would crash."""
    socket = await client()
    offset = (await socket.join("secret:z", CLAIM)).reply["history"]["offset"]
    await socket.close()
    for payload in ({"i": 1}, {"crash": True}, {"i": 3}):
        await abroadcast("secret:z", "msg", payload)
    socket, _ = await come_back(client, "secret:z", {"offset": offset})
    got = await frames(socket, "secret:z", 2)
    assert [f[4]["i"] for f in got] == [1, 3]


class Picky(V2JSONSerializer):
    """Raises on what a client cannot read, in a way of its own."""

    def encode(self, message: Any) -> Any:
        return super().encode(self._checked(message))

    def fastlane(self, broadcast: Broadcast) -> Any:
        return super().fastlane(self._checked(broadcast))

    @staticmethod
    def _checked(message: Any) -> Any:
        if getattr(message, "event", None) == "other":
            raise KeyError("other")
        return message


class PickySocket(HistorySocket):
    serializers = {"~> 2.0.0": Picky}


@pytest.mark.parametrize("topic", ["room:v", "secret:v"])
async def test_what_a_client_cannot_be_sent_is_withheld_live_and_in_a_replay(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Room, "history", History())
    socket = await connect(PickySocket)
    room = await socket.join(topic, CLAIM)
    offset = room.reply["history"]["offset"]
    for n, name in enumerate(["msg", "other", "msg"]):
        await abroadcast(topic, name, {"i": n})
    back = await connect(PickySocket)
    await back.join(topic, {"history": {"offset": offset}})
    for connected in (socket, back):
        assert [f[4]["i"] for f in await frames(connected, topic, 2)] == [0, 2]
        await connected.close()


async def test_what_is_replayed_is_for_this_join_and_no_other(client: Connect) -> None:
    """phoenix.js drops what has another join_ref: of a join that it has given up, say."""
    socket = await client()
    offset = (await socket.join("room:k", CLAIM)).reply["history"]["offset"]
    await abroadcast("room:k", "msg", {"i": 1})
    back, _ = await come_back(client, "room:k", {"offset": offset})
    await abroadcast("room:k", "msg", {"i": 2})
    got = await frames(back, "room:k", 2)
    assert [f[0] for f in got] == ["1", None]


async def test_a_v1_client_has_the_offset_in_its_ref_too(client: Connect) -> None:
    socket = await client("1.0.0")
    communicator = socket.line.communicator
    join = '{"topic":"room:v1","event":"phx_join","payload":{"history":{}},"ref":"1"}'
    await communicator.send_input({"type": "websocket.receive", "text": join})
    reply = json.loads((await communicator.receive_output())["text"])
    offset = reply["payload"]["response"]["history"]["offset"]
    await abroadcast("room:v1", "msg", {"i": 1})
    told = json.loads((await communicator.receive_output())["text"])
    assert told["ref"] == offset.replace("-0", "-1")


async def test_when_the_history_is_lost_clients_join_again_and_are_told(
    client: Connect,
) -> None:
    socket = await client()
    room = await socket.join("room:lost", CLAIM)
    await abroadcast("room:lost", "msg", {"i": 1})
    offset = (await frames(socket, "room:lost", 1))[0][1]
    await get_node().heartbeat.state.reset("room:lost")
    await get_node().heartbeat.beat()
    error = await socket._take(lambda f: f[3] == "phx_error")
    assert error[4] == {"reason": "history lost"}
    _, history = await come_back(client, "room:lost", {"offset": offset})
    assert history["recovered"] is False
    assert room.reply["history"]["offset"] != history["offset"]


async def test_broadcasts_that_come_in_the_wrong_order_are_delivered_in_the_right_one(
    client: Connect,
) -> None:
    """As from two processes: the second overtakes the first on the layer."""
    node = get_node()
    socket = await client()
    await socket.join("room:order", CLAIM)
    sent: list[Any] = []
    offer, node.pubsub.sequencer.offer = node.pubsub.sequencer.offer, sent.append  # type: ignore[method-assign]
    for i in range(3):
        await abroadcast("room:order", "msg", {"i": i})
    node.pubsub.sequencer.offer = offer  # type: ignore[method-assign]
    for held in reversed(sent):
        node.pubsub.sequencer.offer(held)
    got = await frames(socket, "room:order", 3)
    assert [f[4]["i"] for f in got] == [0, 1, 2]


async def test_what_does_not_come_is_read_from_the_history(client: Connect) -> None:
    node = get_node()
    socket = await client()
    await socket.join("room:hole", CLAIM)
    sent: list[Any] = []
    offer, node.pubsub.sequencer.offer = node.pubsub.sequencer.offer, sent.append  # type: ignore[method-assign]
    for i in range(3):
        await abroadcast("room:hole", "msg", {"i": i})
    node.pubsub.sequencer.offer = offer  # type: ignore[method-assign]
    node.pubsub.sequencer.offer(sent[2])
    got = await frames(socket, "room:hole", 3)
    assert [f[4]["i"] for f in got] == [0, 1, 2]


async def test_what_nobody_told_of_is_found_at_the_next_beat(client: Connect) -> None:
    node = get_node()
    socket = await client()
    await socket.join("room:tail", CLAIM)
    offer, node.pubsub.sequencer.offer = node.pubsub.sequencer.offer, lambda held: None  # type: ignore[method-assign]
    await abroadcast("room:tail", "msg", {"i": 0})
    node.pubsub.sequencer.offer = offer  # type: ignore[method-assign]
    await node.heartbeat.beat()
    assert (await frames(socket, "room:tail", 1))[0][4] == {"i": 0}


def test_a_claim_is_read_from_whatever_a_client_sends() -> None:
    for payload in (None, [], {}, {"history": 1}, {"history": None}):
        assert RecoveryRequest.of(payload) == RecoveryRequest(
            None, frozenset(), is_made=False
        )
    for history in ({}, {"senders": {"a": 1}}, {"senders": ["x" * 65]}):
        assert RecoveryRequest.of({"history": history}) == RecoveryRequest(
            None, frozenset(), is_made=True
        )
    senders = [str(i) for i in range(30)] + [None, {}]
    claim = RecoveryRequest.of({"history": {"offset": "e-3", "senders": senders}})
    assert claim.position == Position("e", 3)
    assert claim.senders == frozenset(str(i) for i in range(12, 30))


async def test_what_the_state_refuses_once_is_no_outage(client: Connect) -> None:
    socket = await client()
    await socket.join("room:refused", CLAIM)
    beat = get_node().heartbeat
    beat.failed(StateRefused("WRONGTYPE"))
    assert not beat.is_down
    await abroadcast("room:refused", "msg", {"i": 1})
    assert (await frames(socket, "room:refused", 1))[0][1].endswith("-1")


async def test_a_state_that_failed_once_is_asked_again_at_once(
    client: Connect,
) -> None:
    socket = await client()
    await socket.join("room:hiccup", CLAIM)
    beat = get_node().heartbeat
    await beat.ready()
    beat.failed(StateError("gone"))
    assert beat.is_down
    async with asyncio.timeout(0.9):  # not with the next beat only, nor a second later
        while beat.is_down:
            await asyncio.sleep(0)


async def test_a_process_that_does_not_keep_what_it_should_is_noticed(
    client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose settings do not lead to the channel class, say."""
    socket = await client()
    await socket.join("room:worker", CLAIM)
    for name in ("msg", "other"):
        item = message.pack_item(Broadcast("room:worker", name, Raw(b"{}")))
        await get_node().take(message.pack([item], "another node"))
    assert [f[3] for f in await frames(socket, "room:worker", 2)] == ["msg", "other"]
    (record,) = caplog.records
    assert "'msg' came from a process that did not keep it" in record.getMessage()


async def test_a_reply_of_join_cannot_have_a_history_of_its_own(
    client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    assert Recovery(None).add_to({"history": 1}, "s")["history"]["sender"] == "s"
    assert "its own 'history'" in caplog.text


def test_what_is_no_history_and_no_presence_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match="history is a History or None"):
        type("Wrong", (Room,), {"history": 100})
    with pytest.raises(TypeError, match="presence is a Presence class or None"):
        type("Wrong", (Room,), {"presence": "chat.RoomPresence"})


def test_a_history_says_what_is_wrong_with_it() -> None:
    for wrong in ({"size": 0}, {"size": 1.5}, {"ttl": 0}, {"ttl": -1}):
        with pytest.raises(ValueError, match="size of 1 or more, and a ttl above 0"):
            History(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a string"):
        History(events="new_msg")


def test_only_what_must_keep_its_order_waits_in_the_mailbox() -> None:
    nothing: frozenset[str] = frozenset()
    some = frozenset({"a"})
    assert queued_events(some, None) == some
    assert queued_events(nothing, History()) == nothing
    assert queued_events(some, History(events={"b"})) == some
    assert queued_events(some, History(events={"a", "b"})) == {"a", "b"}
    assert queued_events(some, History()) is ALL_EVENTS
    assert "anything" in ALL_EVENTS and ALL_EVENTS != nothing


class Bounded(Room):
    history = History(size=100, ttl=60, max_bytes=20_000, max_replay_bytes=9_000)


class BoundedSocket(Socket):
    channels = {"room:*": Bounded}


async def bounded(topic: str, history: Any) -> tuple[Connected, Any]:
    socket = await connect(BoundedSocket, {"vsn": "2.0.0"})
    return socket, (await socket.join(topic, {"history": history})).reply["history"]


async def test_what_is_too_much_to_be_replayed_is_not_recovered() -> None:
    socket, first = await bounded("room:much", {})
    offsets = [first["offset"]]
    for i in range(6):
        await abroadcast("room:much", "msg", {"i": i, "text": "x" * 3000})
        offsets.append((await frames(socket, "room:much", 1))[0][1])
    await socket.close()
    for missed in range(1, 7):
        back, history = await bounded("room:much", {"offset": offsets[-1 - missed]})
        assert history["recovered"] is (missed < 3)
        if missed < 3:
            got = await frames(back, "room:much", missed)
            assert [frame[4]["i"] for frame in got] == list(range(6 - missed, 6))
        await back.close()


async def test_one_that_is_larger_than_a_history_is_delivered_and_leaves_nothing() -> (
    None
):
    socket, first = await bounded("room:large", {})
    for size in (10, 30_000, 10):
        await abroadcast("room:large", "msg", {"text": "x" * size})
    got = await frames(socket, "room:large", 3)
    assert [len(frame[4]["text"]) for frame in got] == [10, 30_000, 10]
    await socket.close()
    for offset, recovered in [(first["offset"], False), (got[1][1], True)]:
        back, history = await bounded("room:large", {"offset": offset})
        assert history["recovered"] is recovered
        await back.close()


class Counting(MemoryState):
    """Says how much it was asked for, and answers late or never when it is told to."""

    def __init__(self) -> None:
        super().__init__(lease=1000.0)
        self.reads = self.at_once = self.most_at_once = 0
        self.fails = False

    async def since(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        for _ in range(5):
            await asyncio.sleep(0)
        self.at_once -= 1
        if self.fails:
            raise StateTimeout("too slow")
        return await super().since(*args, **kwargs)


async def counting() -> tuple[Node, Counting]:
    node, state = Node(), Counting()
    node.heartbeat.state = node.pubsub.sequencer._state = state
    await node.heartbeat.beat()
    return node, state


LARGE = History(size=1000, ttl=60, max_bytes=2**23, max_replay_bytes=2**23)


async def test_many_who_come_back_at_once_share_what_is_read() -> None:
    node, state = await counting()
    many = [item(f"{i}", "t", size=1000, payload=2**14) for i in range(200)]
    positions = await state.append(many)
    claims = [RecoveryRequest(p, frozenset()) for p in positions[:100]]
    found = await asyncio.gather(
        *(node.pubsub.sequencer.catch_up("t", LARGE, claim) for claim in claims)
    )
    assert [len(f.missed) for f in found] == list(range(199, 99, -1))
    held = {id(kept) for recovery in found for kept in recovery.missed}
    assert len(held) == 199  # and none of them a hundred times
    # each page has 16 of them; who comes first reads nearly all
    assert state.reads < 30
    assert not node.pubsub.sequencer._streams["t"]._shared


async def test_of_many_topics_only_some_are_read_at_once() -> None:
    node, state = await counting()
    topics = [f"t{i}" for i in range(50)]
    await state.append([item(topic, topic) for topic in topics])
    heads = await state.heads(dict.fromkeys(topics, 60.0))
    claims = [RecoveryRequest(head._replace(n=0), frozenset()) for head in heads]
    found = await asyncio.gather(
        *map(node.pubsub.sequencer.catch_up, topics, [LARGE] * 50, claims)
    )
    assert all(recovery.recovered for recovery in found)
    assert state.most_at_once == READS


async def test_a_reading_that_takes_too_long_fails_those_joins_and_nothing_else() -> (
    None
):
    node, state = await counting()
    position, *_ = await state.append([item("1", "t"), item("2", "t")])
    claim = RecoveryRequest(position, frozenset())
    state.fails = True
    found = await asyncio.gather(
        *(node.pubsub.sequencer.catch_up("t", LARGE, claim) for _ in range(50))
    )
    assert not any(recovery.recovered for recovery in found)
    assert not node.heartbeat.outage.is_on
    assert state.reads == 1  # the others that waited for it do not wait for another one
    state.fails = False
    assert (await node.pubsub.sequencer.catch_up("t", LARGE, claim)).recovered


async def test_what_is_counted_is_not_read() -> None:
    node, state = await counting()
    await state.append([item(f"{i}", "t") for i in range(3)])
    assert (await state.kept("t", 60))[1] == 3
    assert state.reads == 0


async def test_what_a_node_lacks_is_read_page_after_page() -> None:
    node, state = await counting()
    await node.pubsub.sequencer.catch_up("t", LARGE, RecoveryRequest(None, frozenset()))
    stream = node.pubsub.sequencer._streams["t"]
    got: list[Any] = []
    node.pubsub.deliver_local = lambda broadcast, **kwargs: got.append(broadcast)  # type: ignore
    many = [item(f"{i}", "t", size=1000, payload=2**14) for i in range(200)]
    await state.append(many)
    await stream.fill()
    assert [b.offset.rpartition("-")[2] for b in got] == [str(n) for n in range(1, 201)]
    assert 10 < state.reads < 30


async def test_a_long_outage_does_not_remember_every_topic() -> None:
    node, state = await counting()
    state.append = state.heads = refuse  # type: ignore[method-assign, assignment]
    (before,) = [await state.open("t", 60)]
    for some in range(0, 3 * BROKEN, BROKEN // 2):
        names = [f"t{i}" for i in range(some, some + BROKEN // 2)]
        await node.pubsub.sequencer._keep([item(name, name) for name in names])
        assert len(node.pubsub.sequencer._broken) <= BROKEN
    del state.append, state.heads
    node.heartbeat.outage.report(None)
    await node.pubsub.sequencer._keep([item("another", "another")])
    assert await state.heads({"t": 60.0}) != [before]


async def refuse(*args: Any) -> Any:
    raise StateError("away")


def test_a_history_has_limits_of_bytes() -> None:
    for name in ("max_bytes", "max_replay_bytes"):
        for wrong in (0, -1, 1.5):
            with pytest.raises(ValueError, match="1 byte or more"):
                History(**{name: wrong})  # type: ignore[arg-type]
