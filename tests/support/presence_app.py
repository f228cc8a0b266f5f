"""Rooms with presences: ``uvicorn tests.support.presence_app:application``."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.presence_settings")

from phx_protocol import Channel, Presence, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests.support import leases  # noqa: E402


class RoomPresence(Presence):
    name = "rooms"
    leave_after = float(os.environ.get("PHX_LEAVE_AFTER", 0))


class RoomChannel(Channel):
    presence = RoomPresence

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_key(self) -> str:
        return str(self.params["user"])

    def presence_meta(self) -> dict[str, Any]:
        return {"device": self.params["device"]}

    @event("update")
    async def update(self, payload: Any) -> Any:
        await RoomPresence.update(self, self.presence_key(), payload)
        return "ok"

    @event("track")
    async def track(self, payload: Any) -> Any:
        await RoomPresence.track(self, payload["key"], {"device": payload["key"]})
        return "ok"

    @event("untrack")
    async def untrack(self, payload: Any) -> Any:
        await RoomPresence.untrack(self, payload["key"])
        return "ok"

    @event("list")
    async def list(self, payload: Any) -> Any:
        return "ok", await RoomPresence.list(self)


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}
    check_origin = False


leases.beat_often()
application = get_phoenix_application({"/socket": RoomSocket})
