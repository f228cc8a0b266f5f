"""A site whose handlers ask PostgreSQL in every way, over connections that are kept for good."""

from __future__ import annotations

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

from asgiref.sync import sync_to_async  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import OperationalError, connection  # noqa: E402

from phx_protocol import Channel, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402

settings.DATABASES["default"]["CONN_MAX_AGE"] = None


def ask(payload: Any) -> Any:
    """Return which process of PostgreSQL has answered, after so many seconds."""
    try:
        with connection.cursor() as cursor:
            asked = "SELECT pg_backend_pid() FROM pg_sleep(%s)"
            cursor.execute(asked, [payload.get("seconds", 0)])
            return "ok", {"process": cursor.fetchone()[0]}
    except OperationalError:
        return "error", {"reason": "the connection is lost"}


class Room(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("plain def")
    def plain(self, payload: Any) -> Any:
        return ask(payload)

    @event("async def")
    async def on_the_loop(self, payload: Any) -> Any:
        """As the async ORM does it."""
        return await sync_to_async(ask)(payload)

    @event("wrapped")
    async def wrapped(self, payload: Any) -> Any:
        return await database_sync_to_async(ask)(payload)


class RoomSocket(Socket):
    channels = {"room:*": Room}


application = get_phoenix_application({"/socket": RoomSocket})
