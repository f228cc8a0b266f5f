"""The channel that the examples test: it reads and writes the database in every way there is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from phx_protocol import Channel, Socket, broadcast_on_commit, event


class Name(msgspec.Struct):
    name: str


class Message(msgspec.Struct):
    body: str


class RoomChannel(Channel):
    login_required = True

    async def join(self, payload: Any) -> Any:
        return "ok", {"rooms": await Group.objects.acount()}

    @event("new_msg")
    async def new_msg(self, payload: Message) -> Literal["ok"]:
        await self.broadcast("new_msg", {"body": payload.body})
        return "ok"

    @event("create")
    def create(self, payload: Name) -> tuple[Literal["ok"], dict[str, Any]]:
        """In a thread, with Django's ordinary ORM."""
        group = Group.objects.create(name=payload.name)
        self.socket.user.groups.add(group)
        broadcast_on_commit(self.topic, "created", {"name": group.name})
        return "ok", {"id": group.pk}

    @event("acreate")
    async def acreate(self, payload: Name) -> tuple[Literal["ok"], dict[str, Any]]:
        """On the event loop, with the async ORM."""
        group = await Group.objects.acreate(name=payload.name)
        await self.broadcast("created", {"name": group.name})
        return "ok", {"id": group.pk}

    @event("count")
    async def count(self, payload: Any) -> tuple[Literal["ok"], dict[str, int]]:
        users = get_user_model().objects
        counted = await sync_to_async(users.count)()
        return "ok", {"users": counted, "groups": await Group.objects.acount()}

    @event("clash")
    def clash(self, payload: Name) -> None:
        Group.objects.create(name=payload.name)


class ChatSocket(Socket):
    channels = {"room:*": RoomChannel}
