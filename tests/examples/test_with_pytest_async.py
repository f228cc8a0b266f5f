"""A suite for pytest with pytest-asyncio; each test is undone with its transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from django.contrib.auth.models import Group, User

from phx_protocol.testing import TestSocket, connect
from tests.examples.chat import ChatSocket

pytestmark = pytest.mark.django_db

Connect = Callable[..., Awaitable[TestSocket]]


@pytest.fixture(params=[True, False], ids=["wire", "direct"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("event", ["create", "acreate"])
async def test_a_room_is_created(phx_connect: Connect, wire: bool, event: str) -> None:
    user = await User.objects.acreate(username="ann")
    socket = await phx_connect(ChatSocket, user=user, wire=wire)
    room = await socket.join("room:lobby")
    answer = await room.assert_reply(await room.push(event, {"name": "one"}), "ok")
    assert (await Group.objects.aget(pk=answer["id"])).name == "one"


async def test_the_other_tests_have_left_nothing_behind(phx_connect: Connect) -> None:
    assert await User.objects.acount() == await Group.objects.acount() == 0


async def test_two_clients_hear_each_other(phx_connect: Connect, wire: bool) -> None:
    ann = await User.objects.acreate(username="ann")
    bob = await User.objects.acreate(username="bob")
    sockets = [
        await phx_connect(ChatSocket, user=user, wire=wire) for user in (ann, bob)
    ]
    one, two = [await socket.join("room:lobby") for socket in sockets]
    await one.push("acreate", {"name": "chess"})
    await two.assert_push("created", {"name": "chess"})


@pytest.mark.django_db(transaction=True)
async def test_a_committed_change_is_broadcast(wire: bool) -> None:
    user = await User.objects.acreate(username="ann")
    socket = await connect(ChatSocket, user=user, wire=wire)
    room = await socket.join("room:lobby")
    await room.assert_reply(await room.push("create", {"name": "one"}), "ok")
    await room.assert_push("created", {"name": "one"})
    await socket.close()
