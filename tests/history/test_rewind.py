"""Rewind: who joins for the first time gets the newest broadcasts before anything live."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, History, JoinDenied, Socket, abroadcast
from phx_protocol.exceptions import StateError
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from phx_protocol.wire.reasons import Reason
from tests.history.rooms import CLAIM, frames, withheld

#: what a client that comes back sends; a first join sends no offset
NEW = CLAIM["history"]


class Room(Channel):
    history = History(size=20, ttl=60, events={"msg", "bytes"}, rewind=3)

    async def join(self, payload: Any) -> Any:
        assert "history" not in payload
        return ("error", {}) if payload.get("deny") else "ok"


class LastValue(Room):
    history = History(size=20, ttl=60, rewind=1)


class Recent(Room):
    history = History(size=20, ttl=60, rewind=datetime.timedelta(seconds=0.5))


class Tight(Room):
    """Keeps no more than a newcomer gets: some of it goes while it is read."""

    history = History(size=3, ttl=60, rewind=3)


class Small(Room):
    history = History(size=20, ttl=60, max_replay_bytes=100, rewind=10)


class Masked(Room):
    intercepts = {"msg"}

    async def handle_out(self, event: str, payload: Any) -> None:
        if payload["i"] % 2:
            await self.push(event, {**payload, "seen by": self.subtopic})


class Bounded(Room):
    """What a newcomer may see is decided by its test."""

    since: Any = None
    asked: list[Any] = []
    ended: list[Reason] = []

    def rewind_from(self, user: Any) -> Any:  # type: ignore[override]
        self.asked.append(user)
        if isinstance(self.since, Exception):
            raise self.since
        return self.since

    async def terminate(self, reason: Reason) -> None:
        self.ended.append(reason)


class Unbounded(Bounded):
    history = History(size=20, ttl=60)


class RoomSocket(Socket):
    channels = {
        **{"room:*": Room, "last:*": LastValue, "recent:*": Recent, "small:*": Small},
        **{
            "tight:*": Tight,
            "masked:*": Masked,
            "bounded:*": Bounded,
            "unbounded:*": Unbounded,
        },
    }


@pytest.fixture(autouse=True)
async def _known() -> AsyncIterator[None]:
    """The process serves these rooms, so it keeps their broadcasts; nothing is bounded yet."""
    Bounded.since, Bounded.asked, Bounded.ended = None, [], []
    socket = await connect(RoomSocket)
    yield
    await socket.close()


async def enter(
    topic: str, history: Any = NEW, vsn: str = "2.0.0"
) -> tuple[Connected, Any]:
    """A new client that joins, and what the reply says of the history."""
    socket = await connect(RoomSocket, {"vsn": vsn})
    joined = await socket.join(topic, {} if history is None else {"history": history})
    return socket, joined.reply["history"]


async def say(topic: str, *numbers: int, text: str = "") -> None:
    for i in numbers:
        await abroadcast(topic, "msg", {"i": i, "text": text} if text else {"i": i})


async def heard(socket: Connected, topic: str, count: int) -> list[int]:
    return [frame[4]["i"] for frame in await frames(socket, topic, count)]


def which(history: Any) -> str:
    """Rewound, recovered or neither."""
    return " and ".join(n for n in ("rewound", "recovered") if history[n]) or "neither"


async def test_who_is_new_gets_the_newest_in_order_and_before_what_is_live() -> None:
    await say("room:new", 0, 1, 2, 3, 4)
    socket, history = await enter("room:new")
    await say("room:new", 5)
    got = await frames(socket, "room:new", 4)
    assert which(history) == "rewound"
    assert [frame[4]["i"] for frame in got] == [2, 3, 4, 5]
    epoch = history["offset"].rpartition("-")[0]
    # where it is before the first of them: a client that is cut now asks for what follows
    assert history["offset"] == f"{epoch}-2"
    assert [frame[1] for frame in got] == [f"{epoch}-{n}" for n in (3, 4, 5, 6)]
    await socket.close()


async def test_a_client_of_phoenix_js_alone_gets_them_too_and_no_offsets() -> None:
    await say("room:stock", 0, 1, 2, 3)
    socket, history = await enter("room:stock", None)
    got = await frames(socket, "room:stock", 3)
    assert which(history) == "rewound"
    assert [(frame[1], frame[4]["i"]) for frame in got] == [
        (None, i) for i in (1, 2, 3)
    ]
    await socket.close()


async def test_of_a_topic_that_has_kept_nothing_the_rewind_is_empty() -> None:
    socket, history = await enter("room:empty")
    assert (which(history), history["offset"][-2:]) == ("rewound", "-0")
    await say("room:empty", 0)
    assert await heard(socket, "room:empty", 1) == [0]
    await socket.close()


async def test_a_rewind_of_one_gives_the_last_value() -> None:
    await say("last:bar", *range(5))
    socket, _ = await enter("last:bar")
    await say("last:bar", 5)
    assert await heard(socket, "last:bar", 2) == [4, 5]
    await socket.close()


async def test_a_rewind_of_a_time_gives_what_is_not_older() -> None:
    await say("recent:1", 0, 1)
    await asyncio.sleep(0.6)
    await say("recent:1", 2, 3)
    socket, _ = await enter("recent:1")
    await say("recent:1", 4)
    assert await heard(socket, "recent:1", 3) == [2, 3, 4]
    await socket.close()


async def test_a_rewind_has_the_newest_that_fit_into_its_bytes() -> None:
    await say("small:1", *range(6), text="x" * 20)
    socket, history = await enter("small:1")
    assert which(history) == "rewound"
    await say("small:1", 6)
    assert await heard(socket, "small:1", 3) == [4, 5, 6]
    await socket.close()


async def test_a_last_one_that_is_too_large_alone_is_not_sent_nor_any_before_it() -> (
    None
):
    await say("small:2", 0)
    await say("small:2", 1, text="x" * 100)
    socket, history = await enter("small:2")
    assert (which(history), history["offset"][-2:]) == ("rewound", "-2")
    await say("small:2", 2)
    assert await heard(socket, "small:2", 1) == [2]
    await socket.close()


async def test_who_can_be_recovered_is_and_gets_no_more_than_it_missed() -> None:
    await say("room:back", *range(8))
    socket, history = await enter("room:back")
    offset = (await frames(socket, "room:back", 3))[0][1]  # it has lost the other two
    await socket.close()
    socket, history = await enter("room:back", {"offset": offset})
    assert which(history) == "recovered"
    assert await heard(socket, "room:back", 2) == [6, 7]
    await socket.close()


async def test_who_was_away_for_too_long_gets_the_newest() -> None:
    socket, history = await enter("room:away")
    await socket.close()
    await say("room:away", *range(30))
    socket, history = await enter("room:away", {"offset": history["offset"]})
    assert which(history) == "rewound"
    await say("room:away", 30)
    assert await heard(socket, "room:away", 4) == [27, 28, 29, 30]
    await socket.close()


async def test_who_missed_too_many_bytes_gets_nothing_that_it_has() -> None:
    socket, history = await enter("small:3")
    await say("small:3", 0, 1)
    offset = (await frames(socket, "small:3", 2))[-1][1]
    await socket.close()
    await say("small:3", 2, text="x" * 100)
    await say("small:3", 3)
    socket, history = await enter("small:3", {"offset": offset})
    assert which(history) == "rewound"
    assert await heard(socket, "small:3", 1) == [3]
    await socket.close()


async def test_after_the_history_was_lost_it_begins_again() -> None:
    socket, history = await enter("room:lost")
    await say("room:lost", 0, 1)
    await socket.close()
    await get_node().heartbeat.state.reset("room:lost")
    socket, again = await enter("room:lost", {"offset": history["offset"]})
    assert which(again) == "rewound"
    assert again["offset"].endswith("-0") and again["offset"] != history["offset"]
    await say("room:lost", 2)
    assert await heard(socket, "room:lost", 1) == [2]
    await socket.close()


async def test_a_newcomer_notices_the_loss_and_so_do_those_that_are_there() -> None:
    first, _ = await enter("room:noticed")
    await say("room:noticed", 0, 1)
    await frames(first, "room:noticed", 2)
    await get_node().heartbeat.state.reset("room:noticed")
    socket, history = await enter("room:noticed")
    assert (which(history), history["offset"][-2:]) == ("rewound", "-0")
    ((*_, event, reason),) = await frames(first, "room:noticed", 1)
    assert (event, reason) == ("phx_error", {"reason": "history lost"})
    await say("room:noticed", 2)
    assert await heard(socket, "room:noticed", 1) == [2]
    await first.close()
    await socket.close()


async def test_while_the_state_is_away_a_join_is_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = await enter("room:outage")  # so that the topic is known here
    await say("room:outage", 0)

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StateError("away")

    with monkeypatch.context() as patch:
        patch.setattr(get_node().heartbeat.state, "rewind", away)
        socket, history = await enter("room:outage")
    assert which(history) == "neither" and history["offset"].endswith("-1")
    await say("room:outage", 1)
    assert await heard(socket, "room:outage", 1) == [1]
    await first.close()
    await socket.close()


async def test_a_rewind_passes_handle_out_as_live_broadcasts_do() -> None:
    await say("masked:me", *range(6))
    socket, _ = await enter("masked:me")
    await say("masked:me", 7)
    got = await frames(socket, "masked:me", 3)
    assert [frame[4] for frame in got] == [{"i": i, "seen by": "me"} for i in (3, 5, 7)]
    assert got[0][1].endswith("-4")
    await socket.close()


async def test_a_join_that_is_denied_gets_nothing() -> None:
    await say("room:denied", 0)
    socket = await connect(RoomSocket)
    await socket.send(["1", "1", "room:denied", "phx_join", {"deny": True}])
    answer = await socket._take(lambda frame: frame[2] == "room:denied")
    assert answer[4] == {"status": "error", "response": {}}
    await socket.settled()
    assert socket.communicator.is_empty()
    await socket.close()


async def test_a_class_without_a_rewind_gives_none() -> None:
    await say("unbounded:1", 0)
    socket, history = await enter("unbounded:1")
    assert which(history) == "neither"
    assert Bounded.asked == []  # there is nothing to bound
    await say("unbounded:1", 1)
    assert await heard(socket, "unbounded:1", 1) == [1]
    await socket.close()


@pytest.mark.parametrize("room", ["room", "tight"])
@pytest.mark.parametrize("seed", range(30))
async def test_between_the_rewind_and_what_is_live_nothing_is_missing_or_twice(
    seed: int, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some broadcasts are there, some come while clients join, in any order, from any process."""
    topic, rng = f"{room}:race {seed}", random.Random(seed)
    last, late = rng.randrange(10, 40), list[Any]()
    state = get_node().heartbeat.state

    async def pause(most: int = 6) -> None:
        for _ in range(rng.randrange(most)):
            await asyncio.sleep(0)

    def slow(call: Any) -> Any:
        async def called(*args: Any, **kwargs: Any) -> Any:
            await pause()
            answer = await call(*args, **kwargs)
            await pause()
            return answer

        return called

    for name in ("rewind", "since", "append", "open"):
        monkeypatch.setattr(state, name, slow(getattr(state, name)))

    async def speak() -> None:
        for i in range(1, last):
            if (
                rng.random() < 0.3
            ):  # as one that another process sent, which comes later
                with withheld() as kept_back:
                    await say(topic, i)
                late.extend(kept_back)
            else:
                await say(topic, i)
            await pause()
            if late and rng.random() < 0.5:
                get_node().pubsub.sequencer.offer(late.pop(rng.randrange(len(late))))
        for broadcast in late:
            get_node().pubsub.sequencer.offer(broadcast)
        await say(topic, last)

    async def listen() -> tuple[Any, list[int]]:
        await pause(100)
        socket, history = await enter(topic)
        got = [-1]
        async with asyncio.timeout(5):
            while got[-1] != last:
                got += await heard(socket, topic, 1)
        await socket.close()
        return history, got[1:]

    await say(topic, 0)
    speaking = asyncio.create_task(speak())
    for history, got in await asyncio.gather(*(listen() for _ in range(6))):
        assert which(history) == "rewound"
        assert got == list(range(last + 1))[-len(got) :]
        assert history["offset"].endswith(f"-{last + 1 - len(got)}")
    await speaking


# ------------------------------------------------------------------------- rewind_from


async def test_a_newcomer_gets_nothing_of_before_it_was_let_in() -> None:
    await say("bounded:new", 0, 1)
    await asyncio.sleep(0.01)
    Bounded.since = datetime.datetime.now(datetime.UTC)
    await asyncio.sleep(0.01)
    await say("bounded:new", 2)
    socket, history = await enter("bounded:new")
    assert which(history) == "rewound" and history["offset"].endswith("-2")
    await say("bounded:new", 3)
    assert await heard(socket, "bounded:new", 2) == [2, 3]
    assert [str(user) for user in Bounded.asked] == ["AnonymousUser"]
    await socket.close()


@pytest.mark.parametrize("room", ["bounded", "unbounded"])
async def test_nor_by_an_offset_that_it_cannot_have(room: str) -> None:
    """Every reply names the epoch, and the number before the first broadcast is 0."""
    topic = f"{room}:forged"
    await say(topic, 0, 1)
    socket, history = await enter(topic)
    await socket.close()
    await asyncio.sleep(0.01)
    Bounded.since = datetime.datetime.now().timestamp()
    await asyncio.sleep(0.01)
    await say(topic, 2)
    epoch = history["offset"].rpartition("-")[0]
    socket, history = await enter(topic, {"offset": f"{epoch}-0"})
    assert which(history) == "recovered"
    assert await heard(socket, topic, 1) == [2]
    await socket.close()


async def test_without_a_bound_it_gets_all_of_a_rewind() -> None:
    await say("bounded:all", 0)
    socket, _ = await enter("bounded:all")
    assert await heard(socket, "bounded:all", 1) == [0]
    await socket.close()


@pytest.mark.parametrize(
    "since", [RuntimeError("crash"), "yesterday", datetime.datetime(2020, 1, 1), True]
)
async def test_an_error_of_rewind_from_is_one_of_the_join(
    since: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await say("bounded:crash", 0)
    Bounded.since = since
    await refused("bounded:crash", {"reason": "join crashed"})
    assert "Bounded.join crashed" in caplog.text
    assert Bounded.ended == [Reason.SHUTDOWN]  # `join` had returned


async def test_rewind_from_may_deny_the_join() -> None:
    Bounded.since = JoinDenied({"reason": "not a member"})
    await refused("bounded:denied", {"reason": "not a member"})
    assert Bounded.ended == [Reason.SHUTDOWN]


async def refused(topic: str, response: Any) -> None:
    socket = await connect(RoomSocket)
    await socket.send(["1", "1", topic, "phx_join", {}])
    answer = await socket._take(lambda frame: frame[2] == topic)
    assert answer[4] == {"status": "error", "response": response}
    await socket.settled()
    assert socket.communicator.is_empty()
    await socket.close()


# ------------------------------------------------------------------------------ binary


async def test_what_is_binary_is_kept_and_comes_back_as_it_was() -> None:
    live, _ = await enter("room:binary")
    payloads = [b"\x00\xff", b"", b'{"i": 1}']
    for payload in payloads:
        await abroadcast("room:binary", "bytes", payload)
    socket, _ = await enter("room:binary")
    for client in (live, socket):
        got = await frames(client, "room:binary", 3)
        assert [frame[3:] for frame in got] == [["bytes", p] for p in payloads]
        # offsets: what came is known, and not sent again
        assert [frame[1].rpartition("-")[2] for frame in got] == ["1", "2", "3"]
        await client.close()
    back, history = await enter("room:binary", {"offset": got[1][1]})
    assert which(history) == "recovered"
    assert (await frames(back, "room:binary", 1))[0][4] == payloads[2]
    await back.close()


async def test_a_client_that_knows_no_offsets_gets_binary_frames_as_from_phoenix() -> (
    None
):
    stock, _ = await enter("room:stock binary", None)
    await abroadcast("room:stock binary", "bytes", b"1")
    socket, _ = await enter("room:stock binary", None)
    for client in (stock, socket):
        (frame,) = await frames(client, "room:stock binary", 1)
        assert frame[1:] == [None, "room:stock binary", "bytes", b"1"]
        await client.close()


async def test_a_v1_client_gets_a_rewind_without_what_is_binary(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await say("room:v1", 0)
    await abroadcast("room:v1", "bytes", b"1")
    await say("room:v1", 1)
    socket = await connect(RoomSocket, {"vsn": "1.0.0"}, wire=True)
    asgi = socket.communicator.asgi  # type: ignore[attr-defined]
    join = '{"topic":"room:v1","event":"phx_join","payload":{},"ref":"1"}'
    await asgi.send_input({"type": "websocket.receive", "text": join})
    texts = [(await asgi.receive_output())["text"] for _ in range(3)]
    assert '"rewound":true' in texts[0]
    assert ['{"i":0}' in texts[1], '{"i":1}' in texts[2]] == [True, True]
    assert "'bytes' cannot be sent" in caplog.text
    await socket.close()
