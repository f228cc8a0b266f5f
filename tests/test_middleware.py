"""The page that makes a change is left out when the change is told to the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.test import AsyncRequestFactory, RequestFactory

from phx_protocol import Channel, Socket, abroadcast
from phx_protocol.auth.tabs import HEADER
from phx_protocol.middleware import ConnectionMiddleware, current_request
from phx_protocol.testing import TestChannel, TestSocket, connect
from tests.support.visitor import Visitor


class RoomChannel(Channel):
    intercepts = {"intercepted"}

    async def join(self, payload: Any) -> Any:
        return "ok"

    async def handle_out(self, event: str, payload: Any) -> None:
        await self.push(event, payload)


class PageSocket(Socket):
    channels = {"room:*": RoomChannel}


async def opened(name: str = "ada") -> tuple[TestSocket, TestChannel, str]:
    """A page of a user, its channel, and the id of its connection."""
    socket = await connect(PageSocket, user=Visitor(name))
    channel = await socket.join("room:1")
    await socket.send([None, "id", "phoenix", "connection_id", {}])
    reply = (await socket._take(lambda frame: frame[1] == "id"))[4]
    assert reply["status"] == "ok" and reply["response"].keys() == {"id"}
    return socket, channel, reply["response"]["id"]


def request(id: str | None, user: str = "ada") -> Any:
    made = RequestFactory().post("/", headers={HEADER: id} if id else {})
    made.user = Visitor(user)
    return made


@pytest.mark.parametrize("event", ["changed", "intercepted"])
async def test_the_page_that_made_the_request_does_not_get_the_broadcast(
    event: str,
) -> None:
    mine, my_room, id = await opened()
    other, other_room, _ = await opened()
    await abroadcast("room:1", event, {"n": 1}, exclude=request(id))
    await other_room.assert_push(event, {"n": 1})
    await my_room.refute_push(event)
    for socket in (mine, other):
        await socket.close()


@pytest.mark.parametrize("who", ["bob", "nobody named", "a guess"])
async def test_an_id_of_somebody_elses_connection_leaves_nobody_out(who: str) -> None:
    socket, room, id = await opened()
    made = {
        "bob": request(id, "bob"),
        "nobody named": request(None),
        "a guess": request("0123456789abcdef.1"),
    }[who]
    await abroadcast("room:1", "changed", {}, exclude=made)
    await room.assert_push("changed")
    await socket.close()


async def test_all_channels_of_the_connection_are_left_out_and_later_ones_too() -> None:
    socket, room, id = await opened()
    await room.leave()
    again = await socket.join("room:1")
    await abroadcast("room:1", "changed", {}, exclude=request(id))
    await again.refute_push("changed")
    await socket.close()


def test_the_request_is_known_while_it_is_handled() -> None:
    seen: list[Any] = []
    middleware = ConnectionMiddleware(lambda r: seen.append(current_request()))
    made = request(None)
    middleware(made)
    assert seen == [made] and current_request() is None
    assert not iscoroutinefunction(middleware)

    def fails(request: Any) -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        ConnectionMiddleware(fails)(made)
    assert current_request() is None


async def test_in_async_views_too_each_in_its_own_task() -> None:
    seen: list[Any] = []

    async def view(request: Any) -> Any:
        await asyncio.sleep(0)
        seen.append((request, current_request()))

    middleware = ConnectionMiddleware(view)
    assert iscoroutinefunction(middleware)
    requests = [AsyncRequestFactory().get("/") for _ in range(3)]
    await asyncio.gather(*(middleware(each) for each in requests))  # type: ignore[arg-type]
    assert seen == [(each, each) for each in requests]
    assert current_request() is None
