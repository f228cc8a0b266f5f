"""The page of docs/react.md, and the channel that it talks to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

from phx_protocol import Channel, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402

PAGE = b"""<!doctype html><title>React</title><link rel="icon" href="data:,">
<div id="root"></div>
<script type="module" id="phx-script" src="/main.js" data-url="/socket" data-token="t"></script>"""


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("new_msg")
    async def new_msg(self, payload: Any) -> Any:
        await self.broadcast("new_msg", {"body": payload["body"], "by": "somebody"})
        return "ok"


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}


async def files(scope: dict[str, Any], receive: Any, send: Any) -> None:
    is_page = scope["path"] == "/"
    body = PAGE if is_page else Path(os.environ["PHX_BUNDLE"]).read_bytes()
    content_type = b"text/html" if is_page else b"text/javascript"
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


django.setup()
application = get_phoenix_application({"/socket": RoomSocket}, http=files)
