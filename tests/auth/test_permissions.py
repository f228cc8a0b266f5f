"""Permissions to join and to push, and their end: Django's users, permissions and logouts."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser

from phx_protocol import (
    Channel,
    Presence,
    aclose_topic,
    adisconnect,
    adisconnect_socket,
    adisconnect_user,
    areauthorize,
)
from phx_protocol.introspection import alist_sockets
from phx_protocol.receivers import django as receivers
from phx_protocol.testing import TestChannel, TestSocket, connect
from tests.auth.rooms import (
    UNAUTHORIZED,
    Busy,
    Slow,
    There,
    User,
    UserSocket,
    ada,
    allow,
    asked,
    busy,
    denied,
    socket,
)

__all__ = ["ada", "busy", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


async def test_an_anonymous_visitor_is_unauthorized_where_a_login_is_required() -> None:
    asked.clear()
    socket = await connect(UserSocket, user=AnonymousUser())
    assert await denied(socket, "members") == UNAUTHORIZED
    assert await denied(socket, "staff") == UNAUTHORIZED
    assert asked == []  # neither join nor terminate
    await socket.close()


async def test_a_user_joins_where_a_login_is_required(socket: TestSocket) -> None:
    await socket.join("members")


async def test_all_permissions_are_required(socket: TestSocket, ada: Any) -> None:
    await allow(ada, "view_user")
    assert await denied(socket, "staff") == UNAUTHORIZED
    ada = await User.objects.aget(pk=ada.pk)
    await allow(ada, "view_user", "change_user")
    other = await connect(UserSocket, user=ada)
    await other.join("staff")
    await other.close()


async def test_an_inactive_user_is_nobody(ada: Any) -> None:
    ada.is_active = False
    socket = await connect(UserSocket, user=ada)
    assert await denied(socket, "members") == UNAUTHORIZED
    await socket.close()


@pytest.mark.parametrize("topic", ["open", "narrowed", "renamed"])
async def test_an_event_may_need_a_permission(ada: Any, topic: str) -> None:
    socket = await connect(UserSocket, user=ada)
    room = await socket.join(topic)
    await room.assert_reply(await room.push("delete"), "error", UNAUTHORIZED)
    await allow(ada, "delete_user")
    allowed = await connect(UserSocket, user=await User.objects.aget(pk=ada.pk))
    room = await allowed.join(topic)
    await room.assert_reply(await room.push("delete"), "ok")
    await socket.close()
    await allowed.close()


def test_a_permission_without_its_app_is_an_error_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="app_label.codename"):
        type("Bad", (Channel,), {"permission_required": "delete_user"})


async def test_a_user_without_a_key_is_in_nobodys_way(
    socket: TestSocket, ada: Any
) -> None:
    keyless = SimpleNamespace(is_authenticated=True, is_active=True)
    other = await connect(UserSocket, user=keyless)
    await other.join("members")
    await adisconnect_user(ada)
    await socket.assert_closed(1001)
    await other.join("open")
    await other.close()


async def test_a_user_that_is_not_a_model_stays_the_same() -> None:
    user = SimpleNamespace(pk=7, is_authenticated=True, is_active=True)
    socket = await connect(UserSocket, user=user)
    members = await socket.join("members")
    await areauthorize(user=user)
    await members.assert_reply(await members.push("nothing"), "error")
    await socket.close()


@pytest.mark.parametrize("how", ["user", "logout", "id", "socket"])
async def test_waiting_messages_of_a_disconnected_client_are_not_handled(
    busy: TestChannel, socket: TestSocket, ada: Any, how: str
) -> None:
    (info,) = await alist_sockets(user=ada)
    if how == "user":
        await adisconnect_user(ada)
    elif how == "logout":
        await database_sync_to_async(
            receivers.close_sockets_of, thread_sensitive=False
        )(None, ada)
    elif how == "id":
        await adisconnect(f"user:{ada.pk}")
    else:
        await adisconnect_socket(info.id)
    Busy.may_go_on.set()
    await socket.assert_closed(1001)
    await socket.close()
    assert Busy.handled == [("wait", {"i": 0})]


class Narrow(UserSocket):
    max_channels = 1


@pytest.mark.parametrize("waits", ["behind", "for a place", "for memory"])
async def test_a_client_that_is_disconnected_while_it_joins_joins_nothing(
    ada: Any, waits: str
) -> None:
    Slow.began, Slow.may_go_on = asyncio.Event(), asyncio.Event()
    socket = await connect(Narrow if waits == "for a place" else UserSocket, user=ada)
    topics = {"behind": ["slow", "slow"], "for a place": ["slow", "open"]}
    payload = {"p": "x" * 1_000_000 if waits == "for memory" else ""}
    for ref, topic in enumerate(topics.get(waits, ["slow", "open"]), 1):
        await socket.send([str(ref), str(ref), topic, "phx_join", payload])
    await Slow.began.wait()
    await socket.communicator.all_read()
    await asyncio.sleep(0)
    await adisconnect_user(ada)
    Slow.may_go_on.set()
    await socket.close()
    # ``join`` had begun, and ``terminate`` is called because it failed
    assert asked == ["slow ended: shutdown"]


@pytest.mark.parametrize("take_away", ["topic", "user"])
async def test_the_presence_of_a_cut_off_channel_ends_even_while_a_callback_runs(
    ada: Any, take_away: str
) -> None:
    There.began, There.may_go_on, There.handled = asyncio.Event(), asyncio.Event(), []
    socket = await connect(UserSocket, user=ada)
    room = await socket.join("there")
    await room.push("wait")
    await There.began.wait()
    assert str(ada.pk) in await Presence.list("there")
    if take_away == "topic":
        await aclose_topic("there")
    else:
        await adisconnect_user(ada)
    assert await Presence.list("there") == {}
    There.may_go_on.set()
    await socket.close()


async def test_messages_of_a_client_that_closes_are_still_handled(
    busy: TestChannel, socket: TestSocket
) -> None:
    Busy.may_go_on.set()
    await socket.close()
    assert len([e for e, _ in Busy.handled if e == "wait"]) == 21


async def test_an_event_is_not_answered_under_a_right_that_was_taken_away(
    socket: TestSocket, ada: Any
) -> None:
    Busy.began, Busy.may_go_on, Busy.handled = asyncio.Event(), asyncio.Event(), []
    await allow(ada, "view_user", "change_user")
    room = await socket.join("busy")
    ref = await room.push("guarded")
    await Busy.began.wait()
    await allow(ada, "view_user")
    await areauthorize(user=ada)
    Busy.may_go_on.set()
    await room.assert_reply(ref, "error", UNAUTHORIZED)


async def test_a_client_that_keeps_joining_keeps_no_channel(
    socket: TestSocket, ada: Any
) -> None:
    joined: set[str] = set()
    refs = itertools.count(1000)

    async def keep_joining() -> None:
        for i in itertools.count():
            ref = str(next(refs))
            await socket.send([ref, ref, "staff", "phx_join", {}])
            await asyncio.sleep(0)
            if i % 3 == 2:
                await socket.send([ref, str(next(refs)), "staff", "phx_leave", {}])
            # not faster than a slow machine asks for permissions: all must be over in two seconds
            await asyncio.sleep(0.002)

    for _ in range(10):
        await allow(ada, "view_user", "change_user")
        await areauthorize(user=ada)
        joining = asyncio.create_task(keep_joining())
        await asyncio.sleep(0.01)
        await ada.user_permissions.aclear()
        await areauthorize(user=ada)
        joining.cancel()
        (info,) = await alist_sockets(user=ada)
        assert info.topics == []
        await socket.settled()
        (info,) = await alist_sockets(user=ada)
        assert info.topics == []
        joined.update(frame[2] for frame in socket._arrived)
        socket._arrived.clear()
    assert joined == {"staff"}


async def test_a_large_event_that_waits_for_its_turn_is_not_handled_after_an_order(
    socket: TestSocket, ada: Any
) -> None:
    Busy.began, Busy.may_go_on, Busy.handled = asyncio.Event(), asyncio.Event(), []
    await allow(ada, "view_user")
    busy, large = await socket.join("busy"), await socket.join("slow:large")
    text = "x" * 700_000
    await busy.push("first", {"text": text})
    await Busy.began.wait()
    await large.push("second", {"text": text})  # as much as two may not have at once
    await socket.communicator.all_read()
    await adisconnect_user(ada)
    Busy.may_go_on.set()
    await socket.assert_closed(1001)
    await socket.close()
    assert [name for name, _ in Busy.handled] == ["first"]
