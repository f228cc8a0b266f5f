"""A room as users write it."""

from __future__ import annotations

import contextvars
from typing import Any

import msgspec

from phx_protocol import Channel, Socket, event, reply


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
