"""History: a client that comes back gets what it missed, as it would have got it."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import (
    EncodeError,
    History,
    abroadcast,
    abroadcast_from,
    local_broadcast,
)
from phx_protocol.history.recovery import Recovery, RecoveryRequest, seconds_of
from phx_protocol.state import Position
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from phx_protocol.wire.serializers import V2JSONSerializer
from tests.history.rooms import (
    CLAIM,
    Connect,
    HistorySocket,
    Room,
    Secretive,
    bounded,
    client,
    come_back,
    frames,
)

__all__ = ["client"]


FIELDS = ("join_ref", "ref", "topic", "event", "payload")


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
        message = await socket.communicator.asgi.receive_output()
        frame = json.loads(message["text"])
        return frame if isinstance(frame, dict) else dict(zip(FIELDS, frame))

    async def join(topic: str) -> None:
        frame = ["1", "1", topic, "phx_join", {}]
        if vsn == "1.0.0":
            frame = dict(zip(FIELDS, frame))  # type: ignore[assignment]
        await socket.communicator.asgi.send_input(
            {"type": "websocket.receive", "text": json.dumps(frame)}
        )
        assert (await said())["payload"]["status"] == "ok"

    for topic in ("room:strict", "secret:strict"):
        await join(topic)
        await abroadcast(topic, "msg", {"i": 1})
        refs.append((await said())["ref"])
    assert refs == [None, None]


async def test_only_clients_with_a_claim_get_offsets(client: Connect) -> None:
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


async def test_a_broadcast_that_is_not_kept_has_no_offset(client: Connect) -> None:
    socket = await client()
    await socket.join("room:b", CLAIM)
    await abroadcast("room:b", "other", {})
    await local_broadcast("room:b", "msg", {})
    got = await frames(socket, "room:b", 2)
    assert [frame[:2] for frame in got] == [[None, None]] * 2


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


async def test_a_client_that_missed_nothing_gets_nothing(client: Connect) -> None:
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


async def test_a_client_that_was_away_too_long_gets_recovered_false(
    client: Connect,
) -> None:
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


async def test_a_client_does_not_get_again_what_it_sent_itself(client: Connect) -> None:
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


async def test_a_denied_join_gets_nothing_of_the_history(client: Connect) -> None:
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


@pytest.mark.parametrize("topic", ["room:ok", "room:\ud800"])
async def test_text_that_is_not_unicode_is_an_error_for_its_sender_only(
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


async def test_pushes_of_handle_out_carry_the_offset_under_any_event_name(
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


async def test_intercepted_and_other_broadcasts_keep_their_order(
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


async def test_a_broadcast_on_which_handle_out_crashes_is_left_out_of_a_replay(
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
async def test_a_broadcast_that_a_client_cannot_get_is_skipped_live_and_in_a_replay(
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


async def test_a_replay_is_only_for_the_join_that_asked_for_it(client: Connect) -> None:
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
    communicator = socket.communicator.asgi
    join = '{"topic":"room:v1","event":"phx_join","payload":{"history":{}},"ref":"1"}'
    await communicator.send_input({"type": "websocket.receive", "text": join})
    reply = json.loads((await communicator.receive_output())["text"])
    offset = reply["payload"]["response"]["history"]["offset"]
    await abroadcast("room:v1", "msg", {"i": 1})
    message = json.loads((await communicator.receive_output())["text"])
    assert message["ref"] == offset.replace("-0", "-1")


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


def test_the_time_of_rewind_from_is_one_for_all_the_world() -> None:
    aware = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    for same in (aware, aware.timestamp(), aware.astimezone()):
        assert seconds_of(same) == aware.timestamp()
    assert seconds_of(None) < seconds_of(0) < seconds_of(1.5)
    naive = datetime.datetime(2026, 1, 2, 5, 4, 5)
    for wrong in (naive, datetime.date(2026, 1, 2), "2026", True, float("nan")):
        with pytest.raises(TypeError, match="must return None, an aware datetime or"):
            seconds_of(wrong)
    # the models of a project without USE_TZ have such
    with override_settings(USE_TZ=False, TIME_ZONE="Africa/Maputo"):
        assert seconds_of(naive) == aware.timestamp()


async def test_a_reply_of_join_cannot_have_a_history_of_its_own(
    client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    assert Recovery(None).add_to({"history": 1}, "s")["history"]["sender"] == "s"
    assert "its own 'history'" in caplog.text


async def test_a_replay_of_too_many_bytes_is_not_recovered() -> None:
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
