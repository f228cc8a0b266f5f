"""Whether a client may be in a channel: at its join, and afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import JoinDenied, areauthorize, local_broadcast
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket, connect
from tests.auth.rooms import (
    UNAUTHORIZED,
    Chosen,
    Slow,
    User,
    UserSocket,
    ada,
    allow,
    asked,
    denied,
    socket,
)

__all__ = ["ada", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


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


async def test_a_client_that_may_not_stay_gets_phx_close(socket: TestSocket) -> None:
    room = await socket.join("chosen:1")
    await room.assert_reply(await room.push("again"), "ok", {"allowed": True})
    await room.assert_push("delivered")
    Chosen.allowed = False
    await room.assert_reply(await room.push("again"), "ok", {"allowed": False})
    await room.assert_ended()
    await room.refute_push("delivered")
    assert asked[-1] == "chosen:1 ended: shutdown"


async def test_a_client_that_may_not_stay_gets_phx_close_when_a_task_checks(
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


async def test_a_client_that_lost_its_right_before_any_join_is_refused(
    socket: TestSocket, ada: Any
) -> None:
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    await areauthorize(user=ada)
    assert await denied(socket, "members") == UNAUTHORIZED


async def test_a_client_that_loses_its_right_while_it_joins_is_refused(
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
