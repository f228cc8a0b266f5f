"""How many connections a user and an address may have, and how often an address may connect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import Channel, ConnectionRefused, Socket, StateError
from phx_protocol.node.census import Census
from phx_protocol.node.node import get_node
from phx_protocol.socket.refusals import refusals
from phx_protocol.testing import TestSocket, connect
from phx_protocol.wire.reasons import CloseCode, Refusal
from tests.support.asgi_poll_client import Client
from tests.support.visitor import Visitor

reasons: list[str] = []


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    async def terminate(self, reason: Any) -> None:
        reasons.append(str(reason))


class PlainSocket(Socket):
    channels = {"room": RoomChannel}
    trusted_proxies = ["unix"]
    is_welcome = True

    async def connect(self, params: Any) -> None:
        if not self.is_welcome:
            raise ConnectionRefused(403)


class TwoSocket(PlainSocket):
    max_connections_per_user = 2


class RefusingSocket(TwoSocket):
    refuse_newest = True


class AddressSocket(PlainSocket):
    max_connections_per_address = 2


class RatedSocket(PlainSocket):
    connect_rate = "2/h"
    longpoll = True


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    refusals.clear()
    reasons.clear()


async def opened(kind: Any, name: str = "ada", address: str = "") -> TestSocket:
    headers = {"x-forwarded-for": address} if address else {}
    return await connect(kind, user=Visitor(name) if name else None, headers=headers)


async def refused(kind: Any, name: str = "ada", address: str = "") -> ConnectionRefused:
    with pytest.raises(ConnectionRefused) as error:
        await opened(kind, name, address)
    assert error.value.status == 429
    return error.value


async def close(*sockets: TestSocket) -> None:
    for socket in sockets:
        await socket.close()


# ------------------------------------------------------------------------------- users


async def test_beyond_the_limit_the_oldest_connection_of_the_user_is_closed() -> None:
    one, two = await opened(TwoSocket), await opened(TwoSocket)
    await one.join("room")
    bob = await opened(TwoSocket, "bob")
    three = await opened(TwoSocket)
    await one.assert_closed(CloseCode.REPLACED)
    await one.close()
    assert reasons == ["replaced"]
    for socket in (two, three, bob):
        await socket.join("room")
    await close(two, three, bob)


async def test_or_the_newest_is_refused_and_told_when_to_come_again() -> None:
    one, two = await opened(RefusingSocket), await opened(RefusingSocket)
    error = await refused(RefusingSocket)
    assert error.reason == Refusal.TOO_MANY_CONNECTIONS
    assert error.headers["retry-after"] == "5"
    await one.close()
    three = await opened(RefusingSocket)
    await refused(RefusingSocket)
    await close(two, three)


async def test_an_anonymous_visitor_is_nobody_of_whom_there_are_many() -> None:
    sockets = [await opened(RefusingSocket, "") for _ in range(4)]
    await close(*sockets)


async def test_who_is_refused_for_another_reason_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as unwelcome:
        unwelcome.setattr(RefusingSocket, "is_welcome", False)
        for _ in range(3):
            with pytest.raises(ConnectionRefused) as error:
                await opened(RefusingSocket)
            assert error.value.status == 403
    sockets = [await opened(RefusingSocket) for _ in range(2)]
    await refused(RefusingSocket)
    await close(*sockets)
    assert not get_node().part(Census)._names


async def test_many_that_come_at_once_are_limited_too() -> None:
    results = await asyncio.gather(
        *(opened(RefusingSocket) for _ in range(8)), return_exceptions=True
    )
    sockets = [each for each in results if isinstance(each, TestSocket)]
    assert len(sockets) == 2
    await close(*sockets)


async def test_without_the_state_the_limit_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = await opened(RefusingSocket)
    state = get_node().heartbeat.state

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    with monkeypatch.context() as away:
        away.setattr(state, "change", fails)
        two = await opened(RefusingSocket)
        await refused(RefusingSocket)
        await one.close()
    await get_node().heartbeat.beat()
    three = await opened(RefusingSocket)
    await refused(RefusingSocket)
    await close(two, three)


async def test_a_state_that_was_lost_counts_those_who_are_here_again() -> None:
    sockets = [await opened(RefusingSocket) for _ in range(2)]
    node = get_node()
    await node.heartbeat.state.lost()
    await node.heartbeat.beat()
    await node.heartbeat.beat()
    await refused(RefusingSocket)
    await close(*sockets)


# --------------------------------------------------------------------------- addresses


async def test_an_address_has_so_many_connections_whoever_its_users_are() -> None:
    sockets = [await opened(AddressSocket, n, "203.0.113.9") for n in ("ada", "")]
    assert (await refused(AddressSocket, "bob", "203.0.113.9")).reason == (
        Refusal.TOO_MANY_CONNECTIONS
    )
    sockets.append(await opened(AddressSocket, "bob", "203.0.113.10"))
    await sockets.pop(0).close()
    sockets.append(await opened(AddressSocket, "bob", "203.0.113.9"))
    await close(*sockets)


async def test_without_an_address_there_is_no_limit() -> None:
    sockets = [await opened(AddressSocket) for _ in range(4)]
    sockets += [await opened(RatedSocket) for _ in range(4)]
    await close(*sockets)


# ------------------------------------------------------------------------------- rates


async def test_an_address_connects_so_often_and_then_waits() -> None:
    for _ in range(2):
        await (await opened(RatedSocket, address="203.0.113.9")).close()
    error = await refused(RatedSocket, address="203.0.113.9")
    assert error.reason == Refusal.RATE_LIMITED
    assert 1700 < int(error.headers["retry-after"]) <= 1800
    await (await opened(RatedSocket, address="203.0.113.10")).close()
    assert refusals[Refusal.RATE_LIMITED] == 1


async def test_a_refused_connection_counts_for_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RatedSocket, "is_welcome", False)
    for _ in range(2):
        with pytest.raises(ConnectionRefused) as error:
            await opened(RatedSocket, address="203.0.113.9")
        assert error.value.status == 403
    await refused(RatedSocket, address="203.0.113.9")


async def test_over_long_poll_the_answer_says_when_to_come_again() -> None:
    headers = {"x-forwarded-for": "203.0.113.9"}
    for _ in range(2):
        await Client(RatedSocket, headers=headers).open()
    request = Client(RatedSocket, headers=headers).request("GET")
    answer = await (await request.send()).answer()
    assert (answer["status"], answer["reason"]) == (500, "rate limited")
    assert 1700 < answer["retry_after"] <= 1800


async def test_without_the_state_the_rate_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    monkeypatch.setattr(get_node().heartbeat.state, "rate", fails)
    for _ in range(2):
        await (await opened(RatedSocket, address="203.0.113.9")).close()
    await refused(RatedSocket, address="203.0.113.9")
