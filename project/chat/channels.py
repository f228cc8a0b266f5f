from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec

from phx_protocol import Channel, History, Presence, event

from .models import LATEST, Message, Room


class NewMessage(msgspec.Struct):
    """The payload of ``new_msg``. A payload that does not fit gets an error."""

    key: UUID
    body: Annotated[str, msgspec.Meta(max_length=2000, pattern=r"\S")]


class RoomPresence(Presence):
    """Who is in a room: each user once, whatever the number of its tabs."""

    leave_after = 3  # who reloads the page does not disappear for the others


class RoomChannel(Channel):
    """The topic ``room:<name>``."""

    login_required = True
    presence = RoomPresence
    # the page has the latest messages in it; the rewind brings what was said since it was made
    history = History(size=200, ttl=3600, events={"new_msg"}, rewind=LATEST)
    room: Room

    async def join(self, payload: Any) -> Any:
        try:
            self.room = await Room.objects.aget(name=self.subtopic)
        except Room.DoesNotExist:
            return "error", {"reason": "no such room"}
        return "ok"

    def presence_meta(self) -> dict[str, Any]:
        return {"name": self.socket.user.get_username()}

    @event("new_msg")
    async def new_msg(self, payload: NewMessage) -> str:
        await Message.objects.aget_or_create(
            author=self.socket.user,
            key=payload.key,
            defaults={"room": self.room, "body": payload.body.strip()},
        )
        return "ok"

    @event("typing", throttle="10/s")
    async def typing(self, payload: Any) -> None:
        await self.broadcast_from("typing", {"name": self.socket.user.get_username()})
