"""Sockets of users that no database has, and receivers that write what they are told to a file."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.users_settings")

from phx_protocol import Channel, Socket, event, signals  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.users import aonline  # noqa: E402
from tests.support import leases  # noqa: E402

TOLD = os.environ["PHX_TOLD"]


class Person:
    is_authenticated = True

    def __init__(self, pk: str) -> None:
        self.pk = pk


class Room(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("online")
    async def online(self, payload: Any) -> Any:
        return "ok", {"users": sorted(await aonline(payload["users"]))}


class UserSocket(Socket):
    channels = {"room:*": Room}

    async def connect(self, params: dict[str, Any]) -> None:
        if "user" in params:
            self.scope["user"] = Person(params["user"])


def write(*words: object) -> None:
    """Append a line; a line that short is written as a whole."""
    with open(TOLD, "a") as file:
        file.write(" ".join(map(str, [*words, os.getpid()])) + "\n")


def online(sender: Any, user: str, id: str, **named: Any) -> None:
    write("user_online", user, id)
    if user.startswith("slow"):
        time.sleep(600)


async def offline(sender: Any, user: str, id: str, **named: Any) -> None:
    write("user_offline", user, id)
    if user.startswith("late"):
        await asyncio.sleep(600)


def occupied(sender: Any, topic: str, id: str, **named: Any) -> None:
    write("topic_occupied", topic, id)


def vacated(sender: Any, topic: str, id: str, **named: Any) -> None:
    write("topic_vacated", topic, id)


signals.user_online.connect(online)
signals.user_offline.connect(offline)
signals.topic_occupied.connect(occupied)
signals.topic_vacated.connect(vacated)

leases.beat_often()
application = get_phoenix_application()
