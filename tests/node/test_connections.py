"""Orders at one node: each of its sockets does them, whatever another one does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from phx_protocol import areauthorize, reauthorize
from phx_protocol.api import asession_ended
from phx_protocol.auth.digests import digest
from phx_protocol.exceptions import BroadcastError
from phx_protocol.node import connections as sockets
from phx_protocol.testing import TestChannel, TestSocket, connect
from tests.auth.rooms import (
    SAME_ORIGIN,
    Chosen,
    Slow,
    UserSocket,
    ada,
    asked,
    cookie_of,
    signed_in,
    socket,
)

__all__ = ["ada", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


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
    for other in others:
        await other.assert_closed(1001)
    for one in broken:
        await one.close()
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
