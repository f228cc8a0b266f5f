"""Who may join and push, and how long: Django's users, permissions and logouts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.test import Client as DjangoClient

from phx_protocol import (
    Channel,
    JoinDenied,
    Reason,
    Socket,
    adisconnect_user,
    areauthorize,
    disconnect_user,
    event,
    reauthorize,
    receivers,
)
from phx_protocol.exceptions import BroadcastError
from phx_protocol.testing import TestChannel, TestSocket, connect
from tests.transports.longpoll import Client

pytestmark = pytest.mark.django_db(transaction=True)
User = get_user_model()
UNAUTHORIZED = {"reason": "unauthorized"}
asked: list[str] = []


class Open(Channel):
    async def join(self, payload: Any) -> Any:
        asked.append(self.topic)
        return "ok"

    @event("delete", permission_required="auth.delete_user")
    async def delete(self, payload: Any) -> Any:
        return "ok", payload

    async def terminate(self, reason: Reason) -> None:
        asked.append(f"{self.topic} ended: {reason}")


class Members(Open):
    login_required = True


class Staff(Open):
    permission_required = ["auth.view_user", "auth.change_user"]


class Narrowed(Open):
    async def delete(self, payload: Any) -> Any:  # an override is no way around
        return "ok", "narrowed"


class Renamed(Open):
    @event("delete")
    async def remove(self, payload: Any) -> Any:  # nor is another name
        return "ok", "renamed"


class Slow(Open):
    login_required = True
    began = asyncio.Event()
    may_go_on = asyncio.Event()

    async def join(self, payload: Any) -> Any:
        self.began.set()
        await self.may_go_on.wait()
        return "ok"


class Chosen(Open):
    allowed = True

    async def authorize(self) -> bool:
        return type(self).allowed

    @event("again")
    async def again(self, payload: Any) -> Any:
        return "ok", {"allowed": await self.reauthorize()}


class Forgetful(Open):
    def authorize(self) -> Any:
        asked.append("authorize")


class UserSocket(Socket):
    longpoll = True
    channels = {
        "open": Open,
        "members": Members,
        "staff": Staff,
        "narrowed": Narrowed,
        "renamed": Renamed,
        "slow": Slow,
        "chosen:*": Chosen,
        "forgetful": Forgetful,
    }


async def allow(user: Any, *codenames: str) -> None:
    types = await sync_to_async(ContentType.objects.get_for_model)(User)
    permissions = Permission.objects.filter(content_type=types, codename__in=codenames)
    await user.user_permissions.aset([p async for p in permissions])


@pytest.fixture
async def ada() -> Any:
    asked.clear()
    Chosen.allowed = True
    return await User.objects.acreate_user("ada")


@pytest.fixture
async def socket(ada: Any) -> AsyncIterator[TestSocket]:
    socket = await connect(UserSocket, user=ada)
    yield socket
    await socket.close()


async def denied(socket: TestSocket, topic: str) -> Any:
    with pytest.raises(JoinDenied) as refused:
        await socket.join(topic)
    return refused.value.reply


async def test_a_visitor_is_told_that_a_login_is_required() -> None:
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


async def test_authorize_decides_before_join(socket: TestSocket) -> None:
    Chosen.allowed = False
    assert await denied(socket, "chosen:1") == UNAUTHORIZED
    assert asked == []


async def test_an_authorize_that_forgets_to_answer_lets_nobody_in(
    socket: TestSocket, caplog: pytest.LogCaptureFixture
) -> None:
    assert await denied(socket, "forgetful") == {"reason": "join crashed"}
    assert asked == ["authorize"]
    assert "authorize must return True or False" in caplog.text


def test_a_permission_without_its_app_is_an_error_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="app_label.codename"):
        type("Bad", (Channel,), {"permission_required": "delete_user"})


# ---------------------------------------------------------------- reauthorize


async def test_who_may_not_stay_is_sent_away_for_good(socket: TestSocket) -> None:
    room = await socket.join("chosen:1")
    await room.assert_reply(await room.push("again"), "ok", {"allowed": True})
    Chosen.allowed = False
    await room.assert_reply(await room.push("again"), "ok", {"allowed": False})
    await room.assert_ended()
    assert asked[-1] == "chosen:1 ended: shutdown"


async def test_a_permission_that_was_taken_away_ends_the_channel(ada: Any) -> None:
    await allow(ada, "view_user", "change_user")
    socket = await connect(UserSocket, user=await User.objects.aget(pk=ada.pk))
    staff = await socket.join("staff")
    await areauthorize(user=ada)  # nothing has changed
    await allow(ada, "view_user")
    await areauthorize(user=ada)
    await staff.assert_ended()
    await socket.close()


async def test_a_user_who_is_gone_is_anonymous_from_then_on(
    socket: TestSocket, ada: Any
) -> None:
    members, free = await socket.join("members"), await socket.join("open")
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(topic="members")
    await members.assert_ended()
    await free.assert_reply(await free.push("delete"), "error", UNAUTHORIZED)


async def test_who_lost_the_right_before_any_join_is_not_let_in(
    socket: TestSocket, ada: Any
) -> None:
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(user=ada)
    assert await denied(socket, "members") == UNAUTHORIZED


async def test_who_lost_the_right_while_joining_is_sent_away(
    socket: TestSocket, ada: Any
) -> None:
    Slow.began, Slow.may_go_on = asyncio.Event(), asyncio.Event()
    joining = asyncio.create_task(socket.join("slow"))
    await Slow.began.wait()
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(user=ada)
    Slow.may_go_on.set()
    with pytest.raises(JoinDenied, match="unauthorized"):
        await joining


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


async def test_a_user_of_no_model_stays_who_it_is() -> None:
    user = SimpleNamespace(pk=7, is_authenticated=True, is_active=True)
    socket = await connect(UserSocket, user=user)
    members = await socket.join("members")
    await areauthorize(user=user)
    await members.assert_reply(await members.push("nothing"), "error")
    await socket.close()


async def ended(*rooms: TestChannel) -> None:
    for room in rooms:
        await room.assert_ended()


async def test_reauthorize_asks_the_channels_of_one_topic_or_all(
    socket: TestSocket,
) -> None:
    one, two, three = [await socket.join(f"chosen:{n}") for n in (1, 2, 3)]
    Chosen.allowed = False
    await areauthorize(topic="chosen:2")
    await ended(two)
    await sync_to_async(reauthorize, thread_sensitive=False)()
    await ended(one, three)


# ------------------------------------------------------------------- the end


async def test_disconnect_user_closes_all_sockets_of_a_user_and_no_others(
    socket: TestSocket, ada: Any
) -> None:
    bob = await connect(UserSocket, user=await User.objects.acreate_user("bob"))
    client = Client(UserSocket)
    await client.open()  # nobody's
    await adisconnect_user(ada)
    await socket.assert_closed(1001)
    await bob.join("members")
    assert (await client.post([None, "1", "phoenix", "heartbeat", {}]))["status"] == 200
    await bob.close()


async def test_disconnect_user_works_from_a_thread(
    socket: TestSocket, ada: Any
) -> None:
    await sync_to_async(disconnect_user, thread_sensitive=False)(ada)
    await socket.assert_closed(1001)
    with pytest.raises(RuntimeError, match="await adisconnect_user"):
        disconnect_user(ada)


async def test_logging_out_closes_the_sockets_of_the_user(ada: Any) -> None:
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    session = browser.cookies[settings.SESSION_COOKIE_NAME].value
    headers = {
        "host": "testserver",
        "cookie": f"{settings.SESSION_COOKIE_NAME}={session}",
        "origin": "http://testserver",
    }
    socket = await connect(UserSocket, headers=headers)
    await socket.join("members")
    client = Client(UserSocket, headers=headers)
    await client.open()
    poll = await client.start_poll()
    await sync_to_async(browser.logout)()
    await socket.assert_closed(1001)
    assert (await poll.answer())["status"] == 410
    again = await connect(UserSocket, headers=headers)  # the session is no more
    assert await denied(again, "members") == UNAUTHORIZED
    await again.close()


async def test_the_session_is_gone_before_its_sockets_can_come_back(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    key = browser.cookies[settings.SESSION_COOKIE_NAME].value
    found = []

    def disconnected(user: Any) -> None:
        found.append(Session.objects.filter(session_key=key).exists())

    monkeypatch.setattr(receivers, "disconnect_user", disconnected)
    await sync_to_async(browser.logout)()
    assert found == [False]


async def test_a_logout_on_the_loop_itself_closes_them_too(
    socket: TestSocket, ada: Any
) -> None:
    from django.contrib.auth.signals import user_logged_out

    user_logged_out.send(sender=type(ada), request=None, user=ada)
    await socket.assert_closed(1001)
    user_logged_out.send(sender=type(ada), request=None, user=None)


async def test_a_layer_that_is_down_does_not_fail_a_logout(
    ada: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(user: Any) -> None:
        raise BroadcastError("down")

    monkeypatch.setattr(receivers, "disconnect_user", fail)
    await asyncio.to_thread(receivers.close_sockets_of, None, ada)
    assert "may be open still: down" in caplog.text
