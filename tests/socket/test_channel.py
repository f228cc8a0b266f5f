"""A channel as users write it: assigns, pushes, replies, broadcasts."""

from __future__ import annotations

import contextvars
from typing import Any

import msgspec
import pytest

from phx_protocol import Channel, JoinDenied, Socket, abroadcast, event, reply
from phx_protocol.testing import connect


class NewMessage(msgspec.Struct):
    body: str


context: contextvars.ContextVar[str] = contextvars.ContextVar(
    "context", default="clean"
)


class Room(Channel):
    intercepts = {"secret"}

    async def join(self, payload: Any) -> Any:
        if payload.get("push"):
            await self.push("too early", {})
        self.assigns["joined"] = True
        return "ok", {"assigns": self.assigns, "subtopic": self.subtopic}

    async def after_join(self) -> None:
        await self.push("welcome", {"to": self.subtopic})

    @event("new_msg")
    async def new_msg(self, payload: NewMessage) -> Any:
        await self.broadcast("new_msg", {"body": payload.body})
        return "ok"

    @event("plain")
    def plain(self, payload: Any) -> Any:
        import threading

        return "ok", {
            "thread": threading.current_thread() is not threading.main_thread()
        }

    @event("later")
    async def later(self, payload: Any) -> Any:
        await reply(self.reply_ref(), "ok", {"late": True})

    @event("subscribe")
    async def further(self, payload: Any) -> Any:
        await self.subscribe("news")
        return "ok"

    @event("secret")
    async def secret(self, payload: Any) -> Any:
        context.set("of the sender")
        await self.broadcast("secret", {"items": []})

    async def handle_out(self, event: str, payload: Any) -> None:
        payload["items"].append(self.subtopic)  # no other receiver must see it
        await self.push(event, {**payload, "context": context.get()})

    async def handle_info(self, message: Any) -> None:
        await self.push("info", {"topic": message.topic, "payload": message.payload})


class RoomSocket(Socket):
    channels = {"room:*": (Room, {"from_route": 1})}

    async def connect(self, params: dict[str, Any]) -> None:
        self.assigns["from_socket"] = params.get("name")


async def test_assigns_are_copied_into_the_channel_with_the_routes_on_top() -> None:
    socket = await connect(RoomSocket, {"name": "ada"})
    for name in ("a", "b"):
        room = await socket.join(f"room:{name}")
        wanted = {"from_socket": "ada", "from_route": 1, "joined": True}
        assert room.reply == {"assigns": wanted, "subtopic": name}
        await room.assert_push("welcome", {"to": name})
    await socket.close()


async def test_pushing_in_join_says_where_to_push(
    caplog: pytest.LogCaptureFixture,
) -> None:
    socket = await connect(RoomSocket)
    with pytest.raises(JoinDenied):
        await socket.join("room:1", {"push": True})
    assert "do it in after_join" in caplog.text
    await socket.close()


async def test_a_payload_is_checked_before_the_handler() -> None:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    wrong = await room.assert_reply(await room.push("new_msg", {"body": 5}), "error")
    assert wrong == {
        "reason": "invalid payload",
        "errors": [{"path": "$.body", "message": "Expected `str`, got `int`"}],
    }
    await room.assert_reply(await room.push("new_msg", {"body": "hi"}), "ok")
    await room.assert_broadcast("new_msg", {"body": "hi"})
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


async def test_each_receiver_has_its_own_copy_and_its_own_context() -> None:
    one, two = await connect(RoomSocket), await connect(RoomSocket)
    a, b = await one.join("room:1"), await two.join("room:1")
    await a.push("secret")
    await a.assert_push("secret", {"items": ["1"]})
    await b.assert_push("secret", {"items": ["1"], "context": "clean"})
    await one.close()
    await two.close()


async def test_a_plain_def_runs_in_a_thread() -> None:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("plain"), "ok", {"thread": True})
    await socket.close()
