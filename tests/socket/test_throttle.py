"""Rates, lengths, connections: what is refused, how the client can read it, and its count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from phx_protocol import Channel, ConnectionRefused, JoinDenied, Reason, Socket, event
from phx_protocol.socket.refusals import refusals
from phx_protocol.socket.throttle import Rate, Throttle, parse_rate, parse_rates
from phx_protocol.socket.throttle import retry_after as wait_of
from phx_protocol.testing import connect
from phx_protocol.wire.reasons import CloseCode, Refusal
from tests.support.asgi_poll_client import Client


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    refusals.clear()
    yield


class ChatChannel(Channel):
    throttle = {"*": "5/h", "phx_join": "2/h"}

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        return "ok", payload

    @event("typing", throttle="2/h")
    async def typing(self, payload: Any) -> Any:
        return "ok"


class FreeChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        return "ok", payload


class ChatSocket(Socket):
    channels = {"chat:*": ChatChannel, "free:*": FreeChannel}
    max_event_length = 20
    max_ref_length = 10
    max_topic_length = 30


# --------------------------------------------------------------------- rates


@pytest.mark.parametrize(
    "text, rate",
    [
        ("20/s", Rate(20, 1)),
        ("5/sec", Rate(5, 1)),
        ("5/m", Rate(5, 60)),
        ("5/min", Rate(5, 60)),
        ("100/hour", Rate(100, 3600)),
        (" 7 / day ", Rate(7, 86400)),
    ],
)
def test_a_rate_is_written_as_in_django_rest_framework(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "20", "20/x", "0/s", "-1/s", "1.5/s", "s/20", None]
)
def test_a_wrong_rate_raises_an_error_with_the_accepted_forms(text: Any) -> None:
    with pytest.raises(ValueError, match="20/s"):
        parse_rate(text)


def test_a_rate_lets_its_times_through_at_once_and_then_as_time_goes_by() -> None:
    throttle = Throttle(Rate(2, 10))
    assert [wait_of([throttle], now) for now in (100, 100, 100, 104.9)] == [
        0,
        0,
        5,
        pytest.approx(0.1),
    ]
    assert [wait_of([throttle], now) for now in (105, 105, 200, 200)] == [0, 5, 0, 0]


def test_a_message_that_one_rate_refuses_is_not_counted_by_another() -> None:
    wide, narrow = Throttle(Rate(2, 10)), Throttle(Rate(1, 10))
    assert wait_of([wide, narrow], 0) == 0
    assert wait_of([wide, narrow], 0) == 10
    assert wait_of([wide], 0) == 0


def test_a_bad_rate_on_a_channel_is_an_error_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="20/s"):
        type("Bad", (Channel,), {"throttle": "fast"})
    with pytest.raises(ValueError, match="20/s"):
        event("x", throttle="fast")


def test_a_rate_alone_is_for_all_events() -> None:
    assert parse_rates("5/s") == {"*": Rate(5, 1)}
    assert parse_rates(None) == {}


async def test_events_beyond_the_rate_of_the_class_are_refused_readably() -> None:
    socket = await connect(ChatSocket)
    room = await socket.join("chat:1")
    for n in range(5):
        await room.assert_reply(await room.push("say", {"n": n}), "ok")
    reply = await room.assert_reply(
        await room.push("say"), "error", {"reason": "rate limited"}
    )
    assert 0 < reply["retry_after"] <= 720
    assert refusals[Refusal.RATE_LIMITED] == 1
    await room.leave()  # one can always leave
    await socket.close()


async def test_an_event_that_is_not_a_string_counts_for_the_rate_as_well() -> None:
    socket = await connect(ChatSocket)
    room = await socket.join("chat:1")
    for n in range(6):
        await socket.send([room.join_ref, f"n{n}", "chat:1", n, {}])
    replies = [await room.assert_reply(f"n{n}", "error") for n in range(6)]
    assert [reply["reason"] for reply in replies] == [
        *["unhandled event"] * 5,
        "rate limited",
    ]
    await socket.close()


async def test_an_event_may_have_a_rate_of_its_own() -> None:
    socket = await connect(ChatSocket)
    room = await socket.join("chat:1")
    for status in ("ok", "ok", "error"):
        await room.assert_reply(await room.push("typing"), status)
    for status in ("ok", "ok", "ok", "error"):  # the class lets five through in all
        await room.assert_reply(await room.push("say"), status)
    await socket.close()


async def test_a_client_does_not_gain_by_joining_more_topics_of_a_class() -> None:
    socket = await connect(ChatSocket)
    rooms = [await socket.join(f"chat:{n}") for n in range(2)]
    answers = [
        await room.assert_reply(await room.push("typing"), status)
        for room, status in zip(rooms * 2, ["ok", "ok", "error", "error"], strict=True)
    ]
    assert answers[-1]["reason"] == "rate limited"
    other = await connect(ChatSocket)
    free = await other.join("chat:1")  # and another client is not concerned
    await free.assert_reply(await free.push("typing"), "ok")
    await socket.close()
    await other.close()


async def test_joins_beyond_their_rate_are_refused_readably() -> None:
    socket = await connect(ChatSocket)
    await socket.join("chat:1")
    await socket.join("chat:2")
    with pytest.raises(JoinDenied) as denied:
        await socket.join("chat:3")
    assert denied.value.reply["reason"] == "rate limited"
    await socket.join("free:1")
    await socket.close()


async def test_the_setting_holds_all_channels_of_a_socket_together() -> None:
    class HeldSocket(ChatSocket):
        throttle = {"*": "3/h", "phx_join": "2/h"}

    socket = await connect(HeldSocket)
    chat, free = await socket.join("chat:1"), await socket.join("free:1")
    with pytest.raises(JoinDenied):
        await socket.join("free:2")
    for channel, status in ((chat, "ok"), (free, "ok"), (free, "ok"), (free, "error")):
        await channel.assert_reply(await channel.push("say"), status)
    await socket.close()


# -------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    "frame, reason",
    [
        (["1", "1", "free:" + "x" * 30, "phx_join", {}], "topic too long"),
        (["1", "1", "free:1", "e" * 21, {}], "event too long"),
        (["1", "1" * 11, "free:1", "say", {}], "ref too long"),
        (["1" * 11, "1", "free:1", "say", {}], "ref too long"),
        ([None, ["1", "2", "3"], "free:1", "say", {}], "ref too long"),
    ],
)
async def test_a_part_that_is_too_long_gets_an_error_with_its_name(
    frame: list[Any], reason: str
) -> None:
    socket = await connect(ChatSocket)
    await socket.send(frame)
    answer = await socket._take(lambda f: True)
    assert answer[1:] == [
        frame[1],
        frame[2],
        "phx_reply",
        {"status": "error", "response": {"reason": reason}},
    ]
    assert refusals[reason] == 1
    await socket.close()


# ---------------------------------------------------------------- connections


async def test_a_process_takes_so_many_connections_over_both_transports() -> None:
    class FullSocket(Socket):
        max_connections = 2
        longpoll = True

    socket = await connect(FullSocket)
    client = Client(FullSocket)
    assert (await client.open())["status"] == 410
    with pytest.raises(ConnectionRefused) as refused:
        await connect(FullSocket)
    assert (refused.value.status, refused.value.reason) == (503, "too many connections")
    assert await Client(FullSocket).open() == {
        "status": 500,
        "reason": "too many connections",
    }
    assert refusals[Refusal.TOO_MANY_CONNECTIONS] == 2
    await socket.close()
    await (await connect(FullSocket)).close()


async def test_a_connection_ends_with_1012_at_its_greatest_age() -> None:
    reasons = []

    class AgedChannel(FreeChannel):
        async def terminate(self, reason: Reason) -> None:
            reasons.append(reason)

    class AgedSocket(Socket):
        channels = {"free:*": AgedChannel}
        max_connection_age = 0.1
        longpoll = True

    socket = await connect(AgedSocket)
    await socket.join("free:1")
    await socket.assert_closed(CloseCode.COME_BACK)
    assert refusals[CloseCode.COME_BACK] == 1
    client = Client(AgedSocket)
    await client.open()
    assert (await client.poll())["status"] == 410
    assert reasons == [Reason.CLOSED]
