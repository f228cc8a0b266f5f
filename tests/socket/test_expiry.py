"""Until when a client may be there."""

from __future__ import annotations

import time
from typing import Any

import pytest

from phx_protocol import Channel, ConnectionRefused, Reason, Socket, event
from phx_protocol.socket import connection
from phx_protocol.socket.refusals import refusals
from phx_protocol.testing import connect
from phx_protocol.wire.reasons import CloseCode
from tests.support.asgi_poll_client import Client

reasons: list[Reason] = []


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("until")
    async def until(self, payload: Any) -> Any:
        at = payload["seconds"]
        self.socket.expires_at = None if at is None else time.time() + at
        return "ok"

    async def terminate(self, reason: Reason) -> None:
        reasons.append(reason)


class EndingSocket(Socket):
    channels = {"room:*": RoomChannel}
    longpoll = True

    async def connect(self, params: dict[str, Any]) -> None:
        if "seconds" in params:
            self.expires_at = time.time() + float(params["seconds"])


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    refusals.clear()
    reasons.clear()


@pytest.mark.parametrize("wire", [True, False])
async def test_at_that_moment_the_connection_is_closed(wire: bool) -> None:
    client = await connect(EndingSocket, {"seconds": 0.2}, wire=wire)
    await client.join("room:1")
    assert reasons == []
    await client.assert_closed(CloseCode.EXPIRED)
    await client.close()
    assert reasons == [Reason.EXPIRED]


async def test_a_session_that_polls_ends_then_too() -> None:
    client = Client(EndingSocket, {"seconds": "0.2"})
    await client.open()
    assert (await client.poll())["status"] == 410
    assert refusals[CloseCode.EXPIRED] == 1


@pytest.mark.parametrize("seconds", [-0.1, -1, -1e9])
async def test_who_comes_later_is_refused(seconds: float) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(EndingSocket, {"seconds": seconds})
    assert refused.value.status == 403


async def test_it_may_be_set_later_and_moved_and_taken_back() -> None:
    client = await connect(EndingSocket)
    room = await client.join("room:1")
    for seconds in (0.05, 1000, None, 0.05, 1e12, None):
        ref = await room.push("until", {"seconds": seconds})
        await room.assert_reply(ref, "ok")
    await room.push("until", {"seconds": 0.05})
    await client.assert_closed(CloseCode.EXPIRED)


async def test_a_moment_in_the_past_is_now() -> None:
    client = await connect(EndingSocket)
    room = await client.join("room:1")
    await room.push("until", {"seconds": -5})
    await client.assert_closed(CloseCode.EXPIRED)


async def test_the_clock_of_the_machine_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "LONGEST_TIMER", 0.02)
    client = await connect(EndingSocket, {"seconds": 1000})
    ahead = time.time() + 2000
    monkeypatch.setattr(connection.time, "time", lambda: ahead)
    await client.assert_closed(CloseCode.EXPIRED)
