"""A Socket as users write it: its serializer, and pushes on any topic."""

from __future__ import annotations

from typing import Any

from phx_protocol import Socket
from phx_protocol.testing import connect
from phx_protocol.wire.serializers import V2JSONSerializer
from tests.socket.echo import EchoChannel, EchoSocket


async def test_a_serializer_of_ones_own() -> None:
    class Shouting(V2JSONSerializer):
        def encode(self, message: Any) -> Any:
            frame = super().encode(message)
            return (
                frame.replace("echo me", "ECHO ME") if isinstance(frame, str) else frame
            )

    class ShoutingSocket(EchoSocket):
        serializers = {"~> 2.0.0": Shouting}

    socket = await connect(ShoutingSocket)
    room = await socket.join("room:1")
    await room.assert_reply(
        await room.push("echo", {"a": "echo me"}), "ok", {"a": "ECHO ME"}
    )
    await socket.close()


async def test_a_push_on_any_topic() -> None:
    class NewsSocket(EchoSocket):
        pass

    seen: list[Socket] = []

    class NewsChannel(EchoChannel):
        async def after_join(self) -> None:
            seen.append(self.socket)

    NewsSocket.channels = {"room:*": NewsChannel}
    socket = await connect(NewsSocket)
    await socket.join("room:1")
    await seen[0].push_to("news", "headline", {"a": 1})
    assert await socket._take(lambda f: f == [None, None, "news", "headline", {"a": 1}])
    await socket.close()
