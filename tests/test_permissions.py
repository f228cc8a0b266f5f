"""Who may join and push, and how long: Django's users, permissions and logouts."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.auth.signals import user_logged_in
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.test import Client as DjangoClient
from django.test import RequestFactory

from phx_protocol import (
    Channel,
    ConnectionRefused,
    JoinDenied,
    Presence,
    Reason,
    Socket,
    aclose_topic,
    adisconnect,
    adisconnect_socket,
    adisconnect_user,
    areauthorize,
    disconnect_user,
    event,
    local_broadcast,
    reauthorize,
)
from phx_protocol.api import asession_ended
from phx_protocol.auth.sessions import digest, session_store
from phx_protocol.concurrency import callbacks
from phx_protocol.exceptions import BroadcastError
from phx_protocol.introspection import alist_sockets
from phx_protocol.node import connections as sockets
from phx_protocol.node.node import get_node
from phx_protocol.receivers import django as receivers
from phx_protocol.socket.rights import Rights
from phx_protocol.testing import TestChannel, TestSocket, connect
from phx_protocol.tokens import TokenSocket, user_token
from phx_protocol.transports.websocket import PhoenixConsumer
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
        allowed = await self.reauthorize()
        await local_broadcast(self.topic, "delivered", {})
        return "ok", {"allowed": allowed}


class Looking(Open):
    """It has its user as the database has it, whenever it is asked."""

    async def authorize(self) -> bool:
        asked.append("looked")
        user = await self.socket.aget_user()
        return bool(user.is_authenticated)


class Hanging(Open):
    async def authorize(self) -> bool:
        asked.append("asked")
        if len(asked) == 1:
            await Slow.may_go_on.wait()
        return True


class Forgetful(Open):
    def authorize(self) -> Any:
        asked.append("authorize")


class Busy(Open):
    """Its events wait until the test lets them go on; it tells of what it handled."""

    permission_required = "auth.view_user"
    intercepts = {"held"}
    began = asyncio.Event()
    may_go_on = asyncio.Event()
    handled: list[Any] = []

    async def handle_in(self, event: str, payload: Any) -> Any:
        self.began.set()
        await self.may_go_on.wait()
        self.handled.append((event, payload))
        await self.push("late", {})
        return "ok"

    async def handle_out(self, event: str, payload: Any) -> None:
        self.handled.append((event, payload))
        await self.push(event, payload)

    @event("guarded", permission_required="auth.change_user")
    async def guarded(self, payload: Any) -> Any:
        return await self.handle_in("guarded", payload)


class There(Busy):
    permission_required = None
    presence = Presence


class UserSocket(Socket):
    longpoll = True
    inbound = 100_000
    channels = {
        "open": Open,
        "members": Members,
        "staff": Staff,
        "narrowed": Narrowed,
        "renamed": Renamed,
        "slow": Slow,
        "busy": Busy,
        "slow:large": Busy,
        "there": There,
        "chosen:*": Chosen,
        "looking": Looking,
        "hanging": Hanging,
        "forgetful": Forgetful,
    }

    def id(self) -> str | None:
        return f"user:{getattr(self.user, 'pk', None)}"


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
    await room.assert_push("delivered")
    Chosen.allowed = False
    await room.assert_reply(await room.push("again"), "ok", {"allowed": False})
    await room.assert_ended()
    await room.refute_push("delivered")
    assert asked[-1] == "chosen:1 ended: shutdown"


async def test_who_may_not_stay_is_sent_away_when_a_task_of_the_channel_asks(
    socket: TestSocket,
) -> None:
    room = await socket.join("chosen:1")
    (served,) = get_node().connections
    (channel,) = served.joined()
    Chosen.allowed = False
    assert not await channel.reauthorize()
    await local_broadcast(room.topic, "delivered", {})
    await room.assert_ended()
    assert not socket._arrived


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


async def test_authorize_may_ask_for_the_user_as_the_database_has_it(
    socket: TestSocket, ada: Any
) -> None:
    room = await socket.join("looking")
    assert asked == ["looked", "looking"]
    await areauthorize(topic="looking")
    assert asked == ["looked", "looking", "looked"]
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(topic="looking")
    await room.assert_ended()
    assert await denied(socket, "looking") == UNAUTHORIZED


async def test_who_turns_out_to_be_gone_while_joining_is_not_let_in(
    socket: TestSocket, ada: Any
) -> None:
    Slow.began, Slow.may_go_on = asyncio.Event(), asyncio.Event()
    joining = asyncio.create_task(denied(socket, "slow"))
    await Slow.began.wait()
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    (served,) = get_node().connections
    await served.socket.aget_user()  # as another channel of the client may
    Slow.may_go_on.set()
    assert await joining == UNAUTHORIZED


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


class Unreadable(UserSocket):
    """Its user cannot be read any more."""

    is_broken = False

    @property
    def user(self) -> Any:
        if type(self).is_broken:
            raise RuntimeError("crash")
        return super().user


async def test_an_order_that_fails_for_one_socket_is_done_by_all_others(
    ada: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Unreadable.is_broken = False
    cookie = await cookie_of(ada)
    headers = {**SAME_ORIGIN, "cookie": cookie}
    broken = [await connect(Unreadable, headers=headers) for _ in range(5)]
    others = [await signed_in(cookie) for _ in range(5)]
    Unreadable.is_broken = True
    with pytest.raises(BroadcastError, match="not done"):
        await asession_ended(digest(cookie.partition("=")[2]), "0")
    for socket in others:
        await socket.assert_closed(1001)
    for socket in broken:
        await socket.close()
    assert "a socket failed to execute a command" in caplog.text


async def test_one_answer_that_takes_its_time_holds_up_nobody(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "AT_ONCE", 2)
    Slow.may_go_on = asyncio.Event()
    Slow.may_go_on.set()
    clients = [await connect(UserSocket, user=ada) for _ in range(6)]
    for client in clients:
        await client.join("hanging")
    Slow.may_go_on.clear()
    asked.clear()
    order = asyncio.create_task(areauthorize(topic="hanging"))
    async with asyncio.timeout(2):
        while len(asked) < 6:
            await asyncio.sleep(0.001)
    assert not order.done()
    Slow.may_go_on.set()
    await order
    for client in clients:
        await client.close()


class Ordering(Channel):
    """Gives an order in the one thread that Django has for sync code, or in all threads that
    callbacks have, and waits there for its end."""

    permission_required = "auth.view_user"
    all_are_there = threading.Barrier(2)

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("order together")
    def order_together(self, payload: Any) -> Any:
        self.all_are_there.wait(5)
        reauthorize(topic=self.topic)
        return "ok"

    @event("order")
    @database_sync_to_async
    def order(self, payload: Any) -> Any:
        reauthorize(topic=self.topic)
        return "ok"


class OrderingSocket(Socket):
    channels = {"ordering:*": Ordering}


@pytest.mark.parametrize("by", ["user", "session", "token"])
async def test_an_order_needs_no_thread_that_waits_for_it(
    ada: Any, by: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "thread_sensitive", False)  # as on a server
    settings.PHX_PROTOCOL = {"SYNC_THREADS": 2}
    await allow(ada, "view_user")
    cookie = await cookie_of(ada)
    kind = {"token": OrderingTokenSocket}.get(by, OrderingSocket)
    application = PhoenixConsumer.as_asgi(socket=kind)
    headers = [(b"sec-fetch-site", b"same-origin"), (b"cookie", cookie.encode())]
    token = user_token(ada, session_store(cookie.partition("=")[2]))
    path = f"/socket?vsn=2.0.0&token={token}"
    client = WebsocketCommunicator(application, path, headers=headers)
    if by == "user":
        client.scope["user"] = ada
    await client.connect()
    for name in ("phx_join", "order", "order together"):
        for topic in ("ordering:1", "ordering:2"):
            await client.send_to(text_data=f'["1","2","{topic}","{name}",{{}}]')
        for _ in range(2):
            assert '"status":"ok"' in await client.receive_from(timeout=5)
    await client.disconnect()


class OrderingTokenSocket(TokenSocket):
    channels = OrderingSocket.channels
    token_param = "token"


async def test_nobody_stays_whose_user_cannot_be_loaded_until_it_can_be_again(
    socket: TestSocket, ada: Any
) -> None:
    room, other = await socket.join("members"), await socket.join("open")

    def rename(before: str, after: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {before} RENAME TO {after}")

    table = User._meta.db_table
    await sync_to_async(rename)(table, "away")
    try:
        await areauthorize(user=ada)
        await room.assert_ended(crashed=True)
        await other.assert_ended(crashed=True)
        assert await denied(socket, "members") == {"reason": "join crashed"}
    finally:
        await sync_to_async(rename)("away", table)
    await socket.join("members")


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


# ------------------------------------------------- a right that is taken away is gone


class Gated(Socket):
    """Its ``connect`` waits until the test lets it go on."""

    channels = UserSocket.channels
    began = asyncio.Event()
    may_go_on = asyncio.Event()

    async def connect(self, params: dict[str, Any]) -> None:
        self.began.set()
        await self.may_go_on.wait()

    def id(self) -> str:
        return "gated"


@pytest.fixture
async def busy(socket: TestSocket, ada: Any) -> TestChannel:
    """A channel that handles one event, behind which twenty others wait, and broadcasts."""
    Busy.began, Busy.may_go_on, Busy.handled = asyncio.Event(), asyncio.Event(), []
    await allow(ada, "view_user", "change_user")
    room = await socket.join("busy")
    for i in range(21):
        await room.push("wait", {"i": i})
    await Busy.began.wait()
    await socket.line.taken()
    for i in range(5):
        await local_broadcast("busy", "held", {"i": i})
    return room


async def forbid(ada: Any) -> None:
    await ada.user_permissions.aclear()
    await areauthorize(user=ada)


async def close_busy(ada: Any) -> None:
    await aclose_topic("busy")


@pytest.mark.parametrize("take_away", [forbid, close_busy])
async def test_an_order_waits_for_nothing_that_the_channel_is_busy_with(
    busy: TestChannel, socket: TestSocket, ada: Any, take_away: Any
) -> None:
    await take_away(ada)
    await local_broadcast("busy", "held", {"i": "after"})
    await local_broadcast("busy", "plain", {"i": "after"})
    Busy.may_go_on.set()
    await socket.settled()
    assert [frame[3] for frame in socket._arrived] == ["phx_close"]
    # what ran has ended, and was told so behind it
    assert Busy.handled == [("wait", {"i": 0})]
    assert asked[-1] == "busy ended: shutdown"


@pytest.mark.parametrize("how", ["user", "logout", "id", "socket"])
async def test_what_waits_of_a_client_that_is_sent_away_is_not_handled(
    busy: TestChannel, socket: TestSocket, ada: Any, how: str
) -> None:
    (info,) = await alist_sockets(user=ada)
    if how == "user":
        await adisconnect_user(ada)
    elif how == "logout":
        await asyncio.to_thread(receivers.close_sockets_of, None, ada)
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
async def test_who_is_sent_away_while_it_joins_joins_nothing(
    ada: Any, waits: str
) -> None:
    Slow.began, Slow.may_go_on = asyncio.Event(), asyncio.Event()
    socket = await connect(Narrow if waits == "for a place" else UserSocket, user=ada)
    topics = {"behind": ["slow", "slow"], "for a place": ["slow", "open"]}
    payload = {"p": "x" * 1_000_000 if waits == "for memory" else ""}
    for ref, topic in enumerate(topics.get(waits, ["slow", "open"]), 1):
        await socket.send([str(ref), str(ref), topic, "phx_join", payload])
    await Slow.began.wait()
    await socket.line.taken()
    await asyncio.sleep(0)
    await adisconnect_user(ada)
    Slow.may_go_on.set()
    await socket.close()
    # ``join`` had begun, and is told that it came to nothing
    assert asked == ["slow ended: shutdown"]


@pytest.mark.parametrize("take_away", ["topic", "user"])
async def test_nobody_is_present_who_was_cut_off_whatever_its_channel_is_busy_with(
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


async def test_who_leaves_by_itself_has_what_it_sent_before_handled(
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
            await asyncio.sleep(0)

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


async def test_a_topic_that_is_closed_lets_nobody_in_who_was_on_the_way(
    socket: TestSocket,
) -> None:
    Slow.began, Slow.may_go_on = asyncio.Event(), asyncio.Event()
    joining = asyncio.create_task(socket.join("slow"))
    await Slow.began.wait()
    await aclose_topic("slow")
    Slow.may_go_on.set()
    with pytest.raises(JoinDenied, match="topic closed"):
        await joining
    await socket._take(lambda frame: frame[3] == "phx_close")
    assert asked[-1] == "slow ended: shutdown"
    await socket.join("slow")


async def change_password(ada: Any) -> None:
    ada.set_password("another")
    await ada.asave()


@pytest.mark.parametrize("how", ["user", "id", "gone", "password"])
async def test_who_has_to_go_while_it_connects_is_not_let_in(
    ada: Any, how: str
) -> None:
    Gated.began, Gated.may_go_on = asyncio.Event(), asyncio.Event()
    headers = {**SAME_ORIGIN, "cookie": await cookie_of(ada)}
    connecting = asyncio.create_task(connect(Gated, headers=headers))
    await asyncio.wait_for(Gated.began.wait(), 2)
    if how == "user":
        await adisconnect_user(ada)
    elif how == "id":
        await adisconnect("gated")
    elif how == "gone":
        await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
        await areauthorize(user=ada)
    else:
        await change_password(ada)
    Gated.may_go_on.set()
    if how == "id":  # which is asked for when it is open
        await (await connecting).assert_closed(1001)
    else:
        with pytest.raises(ConnectionRefused):
            await connecting


@pytest.mark.parametrize("is_concerned", [True, False])
async def test_who_connects_is_looked_at_again_only_when_it_may_be_concerned(
    ada: Any, is_concerned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody could connect while a job saves all users."""
    Gated.began, Gated.may_go_on = asyncio.Event(), asyncio.Event()
    eve = await User.objects.acreate_user("eve")
    headers = {**SAME_ORIGIN, "cookie": await cookie_of(ada)}
    connecting = asyncio.create_task(connect(Gated, headers=headers))
    await asyncio.wait_for(Gated.began.wait(), 2)
    reads: list[Any] = []
    monkeypatch.setattr(Rights, "have_changed", lambda rights: reads.append(rights))
    for user in (eve, AnonymousUser(), ada if is_concerned else eve):
        await areauthorize(user=user)
    await asession_ended("of another browser", "0")
    Gated.may_go_on.set()
    socket = await connecting
    assert len(reads) == is_concerned
    await socket.close()


SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


async def cookie_of(user: Any) -> str:
    """The cookie of a browser in which `user` has logged in."""
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(user)
    name = settings.SESSION_COOKIE_NAME
    return f"{name}={browser.cookies[name].value}"


async def signed_in(cookie: str) -> TestSocket:
    headers = {**SAME_ORIGIN, "cookie": cookie}
    return await connect(UserSocket, headers=headers)


async def test_a_new_password_closes_what_the_old_one_had_let_in(ada: Any) -> None:
    eve = await User.objects.acreate_user("eve")
    of_ada, of_eve = [await signed_in(await cookie_of(u)) for u in (ada, eve)]
    by_token = await connect(OfToken, auth_token=user_token(ada))
    ada.last_login = None
    await ada.asave(update_fields=["last_login"])
    ada.first_name = "Ada"
    await ada.asave()
    await of_ada.join("members")
    await change_password(ada)
    await of_ada.assert_closed(1001)
    await by_token.assert_closed(1001)
    await of_eve.join("members")
    await of_eve.close()


class OfToken(TokenSocket):
    channels = UserSocket.channels


class Person(User):  # type: ignore[misc, valid-type]
    class Meta:
        proxy = True
        app_label = "tests_permissions"


async def test_a_proxy_of_the_user_model_has_a_new_password_as_well(ada: Any) -> None:
    of_ada = await signed_in(await cookie_of(ada))
    await change_password(await Person.objects.aget(pk=ada.pk))
    await of_ada.assert_closed(1001)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is ordered, in place of doing so."""
    given: list[tuple[Any, ...]] = []
    for name in ("disconnect_user", "password_changed", "session_ended"):
        monkeypatch.setattr(
            receivers, name, lambda *args, name=name: given.append((name, *args))
        )
    return given


class OwnHash(User):  # type: ignore[misc, valid-type]
    class Meta:
        proxy = True
        app_label = "tests_permissions"

    def get_session_auth_hash(self) -> str:
        return "of another field"


@pytest.mark.parametrize(
    "model, fields, is_ordered",
    [
        (User, ["email"], False),
        (User, ["password"], True),
        (OwnHash, ["email"], True),
        (OwnHash, ["last_login"], False),
    ],
)
def test_saving_fields_that_let_nobody_in_costs_no_order(
    orders: list[Any], model: Any, fields: list[str], is_ordered: bool
) -> None:
    eve = User.objects.create_user("eve")
    model.objects.get(pk=eve.pk).save(update_fields=fields)
    assert bool(orders) == is_ordered


class Nameless:
    """A user of a model that has no password, and whose keys are no numbers."""

    pk = "a"


def test_a_user_model_without_a_password_can_be_saved(orders: list[Any]) -> None:
    receivers.close_sockets_of_password(Nameless, Nameless(), created=False)
    assert not orders


def test_a_login_without_a_session_is_none_of_ours(
    orders: list[Any], ada_in_a_thread: Any
) -> None:
    request = RequestFactory().get("/")
    request.COOKIES[settings.SESSION_COOKIE_NAME] = "of another site"
    user_logged_in.send(User, request=request, user=ada_in_a_thread)
    assert not orders


@pytest.fixture
def ada_in_a_thread() -> Any:
    return User.objects.create_user("ada")


@pytest.mark.parametrize("error", [ImproperlyConfigured, OperationalError])
def test_a_logout_needs_no_database(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error("no database")

    monkeypatch.setattr(receivers.transaction, "on_commit", fail)
    receivers.close_sockets_of(User, SimpleNamespace(pk=1))
    assert [name for name, *_ in orders] == ["disconnect_user"]


async def test_a_new_password_may_be_let_alone(ada: Any, settings: Any) -> None:
    settings.PHX_PROTOCOL = {"CLOSE_ON_PASSWORD_CHANGE": False}
    of_ada = await signed_in(await cookie_of(ada))
    await change_password(ada)
    await of_ada.join("open")
    await of_ada.close()


async def test_a_rotated_secret_is_no_new_password(ada: Any, settings: Any) -> None:
    cookie = await cookie_of(ada)
    of_ada = await signed_in(cookie)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    ada.first_name = "Ada"
    await ada.asave()
    await of_ada.join("members")
    await of_ada.close()


async def update_password(ada: Any, cookie: str) -> None:
    await User.objects.filter(pk=ada.pk).aupdate(password="!another")


async def delete_session(ada: Any, cookie: str) -> None:
    await Session.objects.filter(session_key=cookie.partition("=")[2]).adelete()


async def expire_session(ada: Any, cookie: str) -> None:
    sessions = Session.objects.filter(session_key=cookie.partition("=")[2])
    await sessions.aupdate(expire_date=datetime(2020, 1, 1, tzinfo=UTC))


async def take_session(ada: Any, cookie: str) -> None:
    """Somebody else's user in the same row: no way that Django has, and seen all the same."""
    eve = await User.objects.acreate_user("eve")
    store = session_store(cookie.partition("=")[2])
    await store.aload()
    await store.aset("_auth_user_id", str(eve.pk))
    await store.aset("_auth_user_hash", eve.get_session_auth_hash())
    await store.asave()


@pytest.mark.parametrize("bound_to", ["session", "token"])
@pytest.mark.parametrize(
    "end", [update_password, delete_session, expire_session, take_session]
)
async def test_a_session_that_has_ended_names_nobody_when_it_is_looked_at(
    ada: Any, end: Any, bound_to: str
) -> None:
    cookie = await cookie_of(ada)
    if bound_to == "session":
        of_ada = await signed_in(cookie)
    else:
        token = user_token(ada, session_store(cookie.partition("=")[2]))
        of_ada = await connect(OfToken, auth_token=token, headers={"cookie": cookie})
    members, anybody = await of_ada.join("members"), await of_ada.join("open")
    await areauthorize()
    await end(ada, cookie)
    await areauthorize()
    await members.assert_ended()
    assert await denied(of_ada, "members") == UNAUTHORIZED
    await anybody.push("e")
    await of_ada.close()


async def test_another_login_in_the_same_browser_closes_what_the_old_user_had(
    ada: Any,
) -> None:
    eve = await User.objects.acreate_user("eve")
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    name = settings.SESSION_COOKIE_NAME
    of_ada = await signed_in(f"{name}={browser.cookies[name].value}")
    elsewhere = await signed_in(await cookie_of(ada))

    def log_in_as_eve() -> None:
        request = RequestFactory().get("/")
        request.COOKIES[name] = browser.cookies[name].value
        request.session = session_store(browser.cookies[name].value)
        login(request, eve, "django.contrib.auth.backends.ModelBackend")

    await asyncio.to_thread(log_in_as_eve)
    await of_ada.assert_closed(1001)
    await elsewhere.join("members")
    await elsewhere.close()


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
    await socket.line.taken()
    await adisconnect_user(ada)
    Busy.may_go_on.set()
    await socket.assert_closed(1001)
    await socket.close()
    assert [name for name, _ in Busy.handled] == ["first"]
