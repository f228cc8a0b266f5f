"""Orders for the sockets of all nodes: when they are done, and for whom they wait."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import connection

from phx_protocol import (
    Channel,
    Socket,
    aclose_topic,
    areauthorize,
    event,
    local_broadcast,
    reauthorize,
)
from phx_protocol.auth.sessions import session_store
from phx_protocol.concurrency import callbacks
from phx_protocol.testing import TestChannel, TestSocket
from phx_protocol.tokens import TokenSocket, user_token
from phx_protocol.transports.websocket import PhoenixConsumer
from tests.auth.rooms import (
    Busy,
    User,
    ada,
    allow,
    asked,
    busy,
    cookie_of,
    denied,
    socket,
)

__all__ = ["ada", "busy", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


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


class AsOnAServer(WebsocketCommunicator):
    """While Channels' own one waits, no thread gives back its connection: PostgreSQL would keep it."""

    send_input = ApplicationCommunicator.send_input
    receive_output = ApplicationCommunicator.receive_output


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
    client = AsOnAServer(application, path, headers=headers)
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


async def test_a_client_cannot_stay_while_its_user_cannot_be_loaded(
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
    # the running callback has ended, and ``terminate`` ran after it
    assert Busy.handled == [("wait", {"i": 0})]
    assert asked[-1] == "busy ended: shutdown"
