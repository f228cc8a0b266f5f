"""Which broadcasts are kept, and how much of them."""

from __future__ import annotations

import datetime

import pytest

from phx_protocol import History, abroadcast
from phx_protocol.history.policy import ALL_EVENTS, bounds_of, newest, queued_events
from phx_protocol.state import Kept
from phx_protocol.wire.messages import Broadcast
from tests.history.rooms import CLAIM, Connect, bounded, client, come_back, frames

__all__ = ["client"]


async def test_a_broadcast_that_cannot_be_kept_is_refused(client: Connect) -> None:
    socket = await client()
    room = await socket.join("room:j", CLAIM)
    await room.assert_reply(await room.push("unkeepable"), "ok")
    _, history = await come_back(
        client, "room:j", {"offset": room.reply["history"]["offset"]}
    )
    assert history["offset"] == room.reply["history"]["offset"]


def test_a_history_says_what_is_wrong_with_it() -> None:
    for wrong in ({"size": 0}, {"size": 1.5}, {"ttl": 0}, {"ttl": -1}):
        with pytest.raises(ValueError, match="size of 1 or more, and a ttl above 0"):
            History(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a string"):
        History(events="new_msg")


def test_only_broadcasts_that_must_keep_their_order_wait_in_the_mailbox() -> None:
    nothing: frozenset[str] = frozenset()
    some = frozenset({"a"})
    assert queued_events(some, None) == some
    assert queued_events(nothing, History()) == nothing
    assert queued_events(some, History(events={"b"})) == some
    assert queued_events(some, History(events={"a", "b"})) == {"a", "b"}
    assert queued_events(some, History()) is ALL_EVENTS
    assert "anything" in ALL_EVENTS and ALL_EVENTS != nothing


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


def test_a_rewind_is_a_number_of_broadcasts_that_are_kept_or_a_time() -> None:
    minute = datetime.timedelta(minutes=1)
    given: list[tuple[int | datetime.timedelta, int | None, float | None]] = [
        *((0, 0, None), (1, 1, None), (100, 100, None), (minute, None, 60.0)),
    ]
    for rewind, count, seconds in given:
        history = History(rewind=rewind)
        bounds = {"count": count, "seconds": seconds, "limit": 1024 * 1024}
        assert bounds_of(history) == bounds
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match="0 to 100 broadcasts: not more than are"):
            History(rewind=wrong)
    for none in (datetime.timedelta(), -minute):
        with pytest.raises(ValueError, match="time of a rewind is above 0"):
            History(rewind=none)
    for other in (True, 1.5, "50", None):
        with pytest.raises(TypeError, match="a number of broadcasts or a timedelta"):
            History(rewind=other)  # type: ignore[arg-type]


def test_the_newest_are_as_many_and_as_large_as_a_rewind_may_be() -> None:
    sizes = [10, 20, 30, 40]
    kept = [Kept(n, "", "", b"x" * size, None, 0.0) for n, size in enumerate(sizes)]
    hour = datetime.timedelta(hours=1)
    for rewind, most, wanted in [(2, 100, 2), (4, 90, 3), (4, 39, 0), (hour, 100, 4)]:
        history = History(rewind=rewind, max_replay_bytes=most)
        assert newest(kept, history) == kept[4 - wanted :]
    assert newest([], History(rewind=3)) == []


def test_what_is_binary_is_kept_like_the_rest() -> None:
    some = History(events={"bytes"})
    assert some.keeps(Broadcast("t", "bytes", b"")) and History().keeps(
        Broadcast("t", "any", b"")
    )
    assert not some.keeps(Broadcast("t", "msg", b""))


def test_a_history_has_limits_of_bytes() -> None:
    for name in ("max_bytes", "max_replay_bytes"):
        for wrong in (0, -1, 1.5):
            with pytest.raises(ValueError, match="1 byte or more"):
                History(**{name: wrong})  # type: ignore[arg-type]
