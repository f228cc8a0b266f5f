"""Channels for who has a permission, and one that takes it away and says when that is done."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.revocation_settings")

from asgiref.sync import sync_to_async  # noqa: E402

from phx_protocol import (  # noqa: E402
    Channel,
    Socket,
    abroadcast,
    aclose_topic,
    adisconnect_user,
    areauthorize,
    event,
)
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.auth.sessions import session_store  # noqa: E402
from phx_protocol.revocations import arevoke  # noqa: E402
from phx_protocol.tokens import TokenSocket, user_token  # noqa: E402


class StaffChannel(Channel):
    permission_required = "auth.view_user"

    async def join(self, payload: Any) -> Any:
        await asyncio.sleep(0.002)
        return "ok"

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        await asyncio.sleep(0.002)
        return "ok", payload


class UserSocket(Socket):
    channels = {"staff:*": StaffChannel}

    async def connect(self, params: dict[str, Any]) -> None:
        await asyncio.sleep(0.002)


class OwnTokenSocket(TokenSocket):
    channels = {"staff:*": StaffChannel}
    token_param = "token"

    async def connect(self, params: dict[str, Any]) -> None:
        await asyncio.sleep(0.002)


class FreshTokenSocket(TokenSocket):
    """One that takes the token as phoenix.js sends it."""

    channels = {"staff:*": StaffChannel}


_numbers = itertools.count(1)


class Control(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("prepare")
    async def prepare(self, payload: Any) -> Any:
        """A user who may join, the key of a session in which it is logged in, and a token."""
        return "ok", await sync_to_async(_prepare)()

    @event("another")
    async def another(self, payload: Any) -> Any:
        user = await sync_to_async(_user)(payload["user"])
        return "ok", {"token": user_token(user)}

    @event("shout")
    async def shout(self, payload: Any) -> Any:
        await abroadcast("staff:1", "shout", {})
        return "ok"

    @event("take_away")
    async def take_away(self, payload: Any) -> Any:
        user, how = await sync_to_async(_user)(payload["user"]), payload["how"]
        if how == "reauthorize":
            await user.user_permissions.aclear()
            await areauthorize(user=user)
        elif how == "disconnect_user":
            await adisconnect_user(user)
        elif how == "close_topic":
            await aclose_topic("staff:1")
        elif how == "revoke":
            await arevoke(payload["token"])
        elif how == "revoke_user":
            await arevoke(user=user)
        else:
            take = {"logout": _log_out, "password": _change_password}[how]
            await sync_to_async(take)(user, payload["session"])
        return "ok"


class ControlSocket(Socket):
    channels = {"control": Control}


def _user(key: int) -> Any:
    from django.contrib.auth.models import User

    return User.objects.get(pk=key)


def _prepare() -> dict[str, Any]:
    from django.contrib.auth import login
    from django.contrib.auth.models import Permission, User
    from django.test import RequestFactory

    user = User.objects.create_user(f"ada{os.getpid()}-{next(_numbers)}")
    user.user_permissions.set(Permission.objects.filter(codename="view_user"))
    request = RequestFactory().get("/")
    request.session = session_store()
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    request.session.save()
    session = request.session.session_key
    return {"user": user.pk, "session": session, "token": user_token(user)}


def _log_out(user: Any, session: str) -> None:
    from django.contrib.auth import logout
    from django.test import RequestFactory

    request = RequestFactory().get("/")
    request.session, request.user = session_store(session), user
    logout(request)


def _change_password(user: Any, session: str) -> None:
    user.set_unusable_password()
    user.save()


application = get_phoenix_application()
