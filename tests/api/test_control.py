"""Orders from anywhere: a user's sockets are closed, a topic is, rights are looked at again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from phx_protocol import JoinDenied, aclose_topic, adisconnect_user, disconnect_user
from phx_protocol.testing import TestSocket, connect
from tests.auth.rooms import Slow, User, UserSocket, ada, asked, socket
from tests.support.asgi_poll_client import Client

__all__ = ["ada", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


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


async def test_closing_a_topic_refuses_a_join_that_still_runs(
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
