"""A room, and what is broadcast to it."""

from __future__ import annotations

from typing import Any

import pytest
from channels.layers import get_channel_layer

from phx_protocol import Channel, Socket, abroadcast_from, broadcast, event
from phx_protocol.pubsub import group_name
from phx_protocol.testing import connect


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await abroadcast_from(self.reply_ref(), self.topic, "whisper", payload)
        return "ok"

    @event("plain")
    def plain(self, payload: Any) -> Any:
        broadcast(self.topic, "plain", payload)
        return "ok"


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}

    def id(self) -> str | None:
        return "users:1"


@pytest.fixture
async def room() -> Any:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    yield room
    await socket.close()


async def assert_hears_foreign_code(room: Any) -> None:
    """Send a broadcast to `room` as code that knows nothing but the layer."""
    item = {"topic": "room:1", "event": "news", "payload": {"a": 1}}
    message = {"type": "phx.broadcast", "v": 1, "node": None, "items": [item]}
    await get_channel_layer().group_send(group_name("room:1"), message)
    await room.assert_push("news", {"a": 1})
