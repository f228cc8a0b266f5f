"""Channels whose handlers do what is known to hang, or to break the test's connection."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from channels.db import aclose_old_connections, database_sync_to_async
from django.contrib.auth.models import Group
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.urls import path

from phx_protocol import Channel, Presence, Reason, Socket, broadcast, event

ended: list[Reason] = []
#: what the handler of "block" waits for
gate = threading.Event()


class Named(Presence):
    async def fetch(self, topic: str, presences: Any) -> Any:
        count = await Group.objects.acount()
        return {k: {**v, "groups": count} for k, v in presences.items()}


class Room(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("create")
    def create(self, payload: Any) -> Any:
        Group.objects.create(name=payload["name"])
        return "ok", {"groups": Group.objects.count()}

    @event("acreate")
    async def acreate(self, payload: Any) -> Any:
        await Group.objects.acreate(name=payload["name"])
        return "ok", {"groups": await Group.objects.acount()}

    @event("wrapped")
    async def wrapped(self, payload: Any) -> Any:
        """Channels' wrapper closes old connections before and after the call."""
        return "ok", {"groups": await database_sync_to_async(Group.objects.count)()}

    @event("close_old")
    def close_old(self, payload: Any) -> Any:
        close_old_connections()
        return "ok", {"groups": Group.objects.count()}

    @event("aclose_old")
    async def aclose_old(self, payload: Any) -> Any:
        await aclose_old_connections()
        return "ok", {"groups": await Group.objects.acount()}

    @event("bridge")
    def bridge(self, payload: Any) -> Any:
        """Push from a plain def, as it must be done there."""
        async_to_sync(self.push)("pushed", {"groups": Group.objects.count()})
        async_to_sync(self.broadcast)("news", {})
        broadcast(self.topic, "news", {})
        return "ok", {"groups": async_to_sync(_count)()}

    @event("bridge_to_a_task")
    def bridge_to_a_task(self, payload: Any) -> Any:
        """Waits for what a task does that knows nothing of who waits for it."""
        return "ok", {"groups": async_to_sync(_count_in_a_task)()}

    @event("bridges")
    def bridges(self, payload: Any) -> Any:
        """There and back, and there again."""

        async def there() -> int:
            return await sync_to_async(async_to_sync(_count_in_a_task))()

        return "ok", {"groups": async_to_sync(there)()}

    @event("presences")
    def presences(self, payload: Any) -> Any:
        Named.sync.track(self.topic, "ann", {})
        try:
            return "ok", Named.sync.list(self.topic)
        finally:
            Named.sync.untrack(self.topic, "ann")

    @event("wait")
    async def wait(self, payload: Any) -> None:
        await asyncio.Event().wait()

    @event("block")
    async def block(self, payload: Any) -> None:
        gate.wait()

    async def terminate(self, reason: Reason) -> None:
        ended.append(reason)


async def _count() -> int:
    return await Group.objects.acount()


async def _count_in_a_task() -> int:
    return await asyncio.create_task(_count(), context=contextvars.Context())


class RoomSocket(Socket):
    channels = {"room:*": Room}


def say(request: HttpRequest) -> HttpResponse:
    broadcast("room:1", "said", {"groups": Group.objects.count()})
    return HttpResponse()


urlpatterns = [path("say", say)]
