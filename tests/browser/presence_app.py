"""A page that shows who is there, and its socket: ``uvicorn tests.browser.presence_app:application``."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.presence_settings")

from phx_protocol import Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests.browser.asgi import FILES, files  # noqa: E402
from tests.support import presence_app, servers  # noqa: E402
from tests.support.presence_app import RoomPresence  # noqa: E402

FILES["/"] = (servers.ROOT / "tests/browser/presence.html", b"text/html")


class MoodyChannel(presence_app.RoomChannel):
    """A presence with a mood; a user may bring a guest with another mood."""

    def presence_meta(self) -> dict[str, Any]:
        return {**super().presence_meta(), "mood": "fine"}

    @event("feel")
    async def feel(self, mood: Any) -> Any:
        def changed(meta: dict[str, Any]) -> dict[str, Any]:
            return {**meta, **mood}

        await RoomPresence.update(self, self.presence_key(), changed)
        return "ok"

    @event("bring")
    async def bring(self, guest: Any) -> Any:
        meta = {"device": "none", "mood": "shy"}
        await RoomPresence.track(self, guest["key"], meta)
        return "ok"


class MoodySocket(Socket):
    channels = {"room:*": MoodyChannel}
    longpoll = {"WINDOW": 2.0}  # a tab that polls is missed soon


application = get_phoenix_application({"/socket": MoodySocket}, http=files)
