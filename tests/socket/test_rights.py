"""The current user of a connection, and when it is loaded again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session

from phx_protocol import (
    ConnectionRefused,
    Socket,
    adisconnect,
    adisconnect_user,
    areauthorize,
)
from phx_protocol.api import asession_ended
from phx_protocol.auth.sessions import session_store
from phx_protocol.node.node import get_node
from phx_protocol.socket.rights import Rights
from phx_protocol.testing import TestSocket, connect
from phx_protocol.tokens import user_token
from tests.auth.rooms import (
    SAME_ORIGIN,
    UNAUTHORIZED,
    OfToken,
    Slow,
    User,
    UserSocket,
    ada,
    change_password,
    cookie_of,
    denied,
    signed_in,
    socket,
)

__all__ = ["ada", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_deleted_user_is_anonymous_from_then_on(
    socket: TestSocket, ada: Any
) -> None:
    members, free = await socket.join("members"), await socket.join("open")
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(topic="members")
    await members.assert_ended()
    await free.assert_reply(await free.push("delete"), "error", UNAUTHORIZED)


async def test_a_client_with_a_user_that_is_found_deleted_while_it_joins_is_refused(
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


@pytest.mark.parametrize("how", ["user", "id", "gone", "password"])
async def test_a_client_that_is_disconnected_while_it_connects_is_refused(
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
async def test_a_connecting_client_is_checked_again_only_for_commands_that_may_concern_it(
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
