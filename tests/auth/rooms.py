"""Rooms that not everybody may enter, and a user who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client as DjangoClient

from phx_protocol import (
    Channel,
    JoinDenied,
    Presence,
    Reason,
    Socket,
    event,
    local_broadcast,
)
from phx_protocol.testing import TestChannel, TestSocket, connect
from phx_protocol.tokens import TokenSocket

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


@pytest.fixture
async def busy(socket: TestSocket, ada: Any) -> TestChannel:
    """A channel that handles one event, behind which twenty others wait, and broadcasts."""
    Busy.began, Busy.may_go_on, Busy.handled = asyncio.Event(), asyncio.Event(), []
    await allow(ada, "view_user", "change_user")
    room = await socket.join("busy")
    for i in range(21):
        await room.push("wait", {"i": i})
    await Busy.began.wait()
    await socket.communicator.all_read()
    for i in range(5):
        await local_broadcast("busy", "held", {"i": i})
    return room


async def change_password(ada: Any) -> None:
    ada.set_password("another")
    await ada.asave()


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


class OfToken(TokenSocket):
    channels = UserSocket.channels
