from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec

from phx_protocol import Channel, event

from .models import Message, Room

HISTORY = 50


class NewMessage(msgspec.Struct):
    """The payload of ``new_msg``: what does not fit is answered with an error."""

    key: UUID
    body: Annotated[str, msgspec.Meta(max_length=2000, pattern=r"\S")]


class RoomChannel(Channel):
    """The topic ``room:<name>``."""

    login_required = True
    room: Room

    async def join(self, payload: Any) -> tuple[str, dict[str, Any]]:
        try:
            self.room = await Room.objects.aget(name=self.subtopic)
        except Room.DoesNotExist:
            return "error", {"reason": "no such room"}
        return "ok", {"messages": await self.history()}

    async def history(self) -> list[dict[str, Any]]:
        latest = self.room.messages.select_related("author").order_by("-id")[:HISTORY]
        return [message.as_payload() async for message in latest][::-1]

    @event("new_msg")
    async def new_msg(self, payload: NewMessage) -> str:
        message, created = await Message.objects.aget_or_create(
            author=self.socket.user,
            key=payload.key,
            defaults={"room": self.room, "body": payload.body.strip()},
        )
        if created:
            await self.broadcast("new_msg", message.as_payload())
        return "ok"

    @event("typing", throttle="10/s")
    async def typing(self, payload: Any) -> None:
        await self.broadcast_from("typing", {"name": self.socket.user.get_username()})
