"""Pages that ask for presences, beside a socket: ``uvicorn tests.integration.views_app:application``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.views_settings")

from asgiref.sync import sync_to_async  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from phx_protocol import Channel, Presence, Socket, broadcast, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402

Presences = dict[str, Any]


async def named(presences: Presences) -> Presences:
    from django.contrib.auth.models import User

    users = {user.username: user.email async for user in User.objects.all()}
    return {k: {**p, "email": users.get(k, "")} for k, p in presences.items()}


class RoomPresence(Presence):
    name = "rooms"

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        return await named(presences)


class NestedPresence(Presence):
    """Its ``fetch`` asks another one, in sync code."""

    name = "nested"

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        rooms = await sync_to_async(RoomPresence.sync.list)("room:1")
        return {k: {**p, "rooms": rooms} for k, p in presences.items()}


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    async def after_join(self) -> None:
        await RoomPresence.track(self, "ada", {})
        await NestedPresence.track(self, "ada", {})

    @event("list in a thread")
    def list_in_thread(self, payload: Any) -> Any:
        return "ok", RoomPresence.sync.list(self.topic)

    @event("list in Django's thread")
    async def list_in_djangos_thread(self, payload: Any) -> Any:
        return "ok", await sync_to_async(RoomPresence.sync.list)(self.topic)

    @event("query")
    async def query(self, payload: Any) -> Any:
        from django.contrib.auth.models import User

        return "ok", {"users": await User.objects.acount()}


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}
    check_origin = False


def answered(call: Callable[[], Any]) -> JsonResponse:
    from django.contrib.auth.models import User

    assert User.objects.count() == 1  # its thread has a transaction
    return JsonResponse(call())


def plain(request: HttpRequest) -> JsonResponse:
    return answered(lambda: RoomPresence.sync.list("room:1"))


async def through_a_thread(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await sync_to_async(RoomPresence.sync.list)("room:1"))


def nested(request: HttpRequest) -> JsonResponse:
    return answered(lambda: NestedPresence.sync.list("room:1"))


def tracks(request: HttpRequest) -> JsonResponse:
    RoomPresence.sync.track("room:1", "page", {"n": 1})
    RoomPresence.sync.update("room:1", "page", lambda meta: {**meta, "n": 2})
    found = RoomPresence.sync.get("room:1", "page")
    RoomPresence.sync.untrack("room:1", "page")
    broadcast("room:1", "tracked", {})
    return answered(lambda: found)


async def open_connections(request: HttpRequest) -> JsonResponse:
    """Whether the thread of Django's async ORM has a connection open."""
    from asgiref.sync import SyncToAsync

    def is_open() -> bool:
        return connections["default"].connection is not None

    return JsonResponse(
        {"open": SyncToAsync.single_thread_executor.submit(is_open).result(10)}
    )


from django.db import transaction  # noqa: E402

urlpatterns = [
    path("plain", plain),
    path("thread", transaction.non_atomic_requests(through_a_thread)),
    path("nested", nested),
    path("tracks", tracks),
    path("open", transaction.non_atomic_requests(open_connections)),
]
application = get_phoenix_application({"/socket": RoomSocket})
