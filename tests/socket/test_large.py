"""Large payloads: those of broadcasts cost the loop, but not the client that gets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, History, Socket, abroadcast, event, local_broadcast
from phx_protocol.socket.budget import Budget
from phx_protocol.socket.large import decoded
from phx_protocol.socket.loop_budgets import loop_budgets
from phx_protocol.socket.server import ChannelServer
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from phx_protocol.wire import json
from phx_protocol.wire.messages import Broadcast
from tests.hostile.payloads import DEPTH

#: takes ten milliseconds of the loop and more, to decode as well as to write again
DEAR = json.decode('{"a":[%s]}' % ",".join(["[" * DEPTH + "]" * DEPTH] * 100))
#: as large, and takes nearly nothing
CHEAP = {"text": "x" * 100_000}


class Intercepting(Channel):
    intercepts = {"dear", "cheap"}
    handled: list[str]
    servers: list[ChannelServer]

    async def join(self, payload: Any) -> str:
        return "ok"

    async def after_join(self) -> None:
        self.servers.append(self.__phx__.server)
        await self.subscribe("elsewhere")

    async def handle_out(self, event: str, payload: Any) -> None:
        self.handled.append(event)
        if event == "dear":
            await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        self.handled.append(f"info {message.event}")

    @event("shout")
    async def shout(self, payload: Any) -> None:
        await self.broadcast("dear", payload)

    @event("back")
    async def back(self, payload: Any) -> None:
        self.handled.append("back")
        await self.push("back", payload)


class Keeping(Intercepting):
    history = History()


class LargeSocket(Socket):
    channels = {"a:*": Intercepting, "kept:*": Keeping}


@pytest.fixture
async def socket() -> AsyncIterator[Connected]:
    Intercepting.handled, Intercepting.servers = [], []
    connected = await connect(LargeSocket)
    yield connected
    await connected.close()


@pytest.fixture
async def room(socket: Connected) -> Joined:
    joined = await socket.join("a:1")
    await joined.push("back", {})
    await joined.assert_push("back")  # it has subscribed
    Intercepting.handled.clear()
    return joined


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> list[Budget]:
    """The budgets that pay, in order."""
    those: list[Budget] = []
    charge = Budget.charge

    def noted(budget: Budget, seconds: float) -> None:
        those.append(budget)
        Intercepting.handled.append("paid")
        charge(budget, seconds)

    monkeypatch.setattr(Budget, "charge", noted)
    return those


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "topic, handled", [("a:1", "cheap"), ("elsewhere", "info cheap")]
)
async def test_a_broadcast_is_decoded_for_a_receiver_when_no_other_payload_is(
    room: Joined, topic: str, handled: str
) -> None:
    async with loop_budgets().turns.taken(1):
        await local_broadcast(topic, "cheap", CHEAP)
        await some_turns()
        assert not Intercepting.handled
    async with asyncio.timeout(10):
        while not Intercepting.handled:
            await asyncio.sleep(0)
    assert Intercepting.handled == [handled]


async def test_a_small_broadcast_waits_for_nothing(room: Joined) -> None:
    async with loop_budgets().turns.taken(1):
        await local_broadcast("a:1", "cheap", {})
        await some_turns()
        assert Intercepting.handled == ["cheap"]


async def test_a_channel_that_ends_while_a_payload_waits_does_not_get_it(
    socket: Connected, room: Joined
) -> None:
    async with loop_budgets().turns.taken(1):
        await local_broadcast("a:1", "cheap", CHEAP)
        await some_turns()
        Intercepting.servers[-1].close_topic()
        await room.assert_ended()
    await socket.join("a:1")
    assert not Intercepting.handled


async def test_the_receiver_of_a_dear_broadcast_does_not_pay_but_the_next_payload_waits(
    room: Joined, paid: list[Budget]
) -> None:
    await local_broadcast("a:1", "dear", DEAR)
    await room.assert_push("dear")
    # for decoding it, for the garbage collector after that, and for writing it
    assert paid == [loop_budgets().turns] * 3


async def test_nor_does_one_that_missed_it_and_gets_it_with_its_join(
    socket: Connected, paid: list[Budget]
) -> None:
    first = await socket.join("kept:1", {"history": {}})
    offset = first.reply["history"]["offset"]
    await abroadcast("kept:1", "dear", DEAR)
    await first.assert_push("dear")
    await first.leave()
    paid.clear()
    again = await socket.join("kept:1", {"history": {"offset": offset}})
    await again.assert_push("dear")
    assert again.reply["history"]["recovered"]
    assert paid == [loop_budgets().turns] * 3


async def test_who_sends_a_dear_broadcast_pays_for_those_who_get_it_here(
    room: Joined, paid: list[Budget]
) -> None:
    other = await connect(LargeSocket)
    second = await other.join("a:1")
    await room.push("shout", DEAR)
    for channel in (room, second):
        await channel.assert_push("dear")
    mine, theirs = (server.connection.backlog.budget for server in Intercepting.servers)
    # for reading and for writing it once, and for each receiver again
    assert paid.count(mine) >= 3 * 3
    assert theirs not in paid
    await other.close()


async def test_who_sends_a_dear_payload_pays_for_its_push_as_for_a_reply(
    room: Joined, paid: list[Budget]
) -> None:
    await room.push("back", DEAR)
    await room.assert_push("back")
    mine = Intercepting.servers[-1].connection.backlog.budget
    read, written = "".join(Intercepting.handled).split("back")
    assert read and written
    assert paid[-written.count("paid")] is mine


async def test_what_was_being_handled_before_is_handled_again_behind_a_broadcast(
    room: Joined,
) -> None:
    server = Intercepting.servers[-1]
    broadcast = Broadcast("a:1", "cheap", json.encode_payload(CHEAP))
    mine = server.connection.backlog.budget
    async with decoded(server, broadcast, mine) as payload:
        assert payload == CHEAP
        assert server.size > 100_000 and server.payer is mine
    assert server.size == 0 and server.payer is None
