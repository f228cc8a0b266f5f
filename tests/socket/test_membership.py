"""Calls of a channel to its server: pushes, later replies, other topics."""

from __future__ import annotations

import pytest

from phx_protocol import JoinDenied, abroadcast
from phx_protocol.testing import connect
from tests.socket.chat import RoomSocket


async def test_pushing_in_join_says_where_to_push(
    caplog: pytest.LogCaptureFixture,
) -> None:
    socket = await connect(RoomSocket)
    with pytest.raises(JoinDenied):
        await socket.join("room:1", {"push": True})
    assert "do it in after_join" in caplog.text
    await socket.close()


async def test_later_replies_further_topics_and_unknown_events() -> None:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("later"), "ok", {"late": True})
    await room.assert_reply(await room.push("subscribe"), "ok")
    await abroadcast("news", "headline", {"a": 1})
    await room.assert_push("info", {"topic": "news", "payload": {"a": 1}})
    await room.assert_reply(
        await room.push("nope"), "error", {"reason": "unhandled event"}
    )
    await room.leave()
    await abroadcast("news", "headline", {"a": 2})
    await socket.close()
    assert not [frame for frame in socket._arrived if frame[3] == "info"]
