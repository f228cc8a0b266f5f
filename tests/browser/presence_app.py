"""A page that shows who is there, and its socket: ``uvicorn tests.browser.presence_app:application``."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.browser.presence_settings")

from phx_protocol import Channel, Presence, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests import servers  # noqa: E402
from tests.browser.asgi import FILES, files  # noqa: E402

FILES["/"] = (servers.ROOT / "tests/browser/presence.html", b"text/html")


class RoomPresence(Presence):
    name = "rooms"


class RoomChannel(Channel):
    presence = RoomPresence

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_key(self) -> str:
        return str(self.params["user"])

    def presence_meta(self) -> dict[str, Any]:
        return {"device": self.params["device"], "mood": "fine"}

    @event("feel")
    async def feel(self, mood: Any) -> Any:
        def changed(meta: dict[str, Any]) -> dict[str, Any]:
            return {**meta, **mood}

        await RoomPresence.update(self, self.presence_key(), changed)
        return "ok"

    @event("bring")
    async def bring(self, guest: Any) -> Any:
        meta = {"device": "none", "mood": "shy"}
        await RoomPresence.track(self, guest["name"], meta)
        return "ok"

    @event("send_home")
    async def send_home(self, guest: Any) -> Any:
        await RoomPresence.untrack(self, guest["name"])
        return "ok"


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}
    longpoll = {"WINDOW": 2.0}  # a tab that polls is missed soon


application = get_phoenix_application({"/socket": RoomSocket}, http=files)
