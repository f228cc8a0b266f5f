"""A page and its socket, and the same with WebSockets that are dead in three ways."""

from __future__ import annotations

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

from phx_protocol.asgi import Application, get_phoenix_application  # noqa: E402
from tests.support import servers  # noqa: E402

PHOENIX = servers.ROOT / "tests/node_modules/phoenix/priv/static/phoenix.mjs"
FILES = {
    "/": (servers.ROOT / "tests/browser/page.html", b"text/html"),
    "/phoenix.mjs": (PHOENIX, b"text/javascript"),
}


async def files(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path, content_type = FILES[scope["path"]]
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": path.read_bytes()})


django.setup()
application = get_phoenix_application(
    {"/socket": "tests.browser.sockets.PageSocket"}, http=files
)


def with_websockets(*answers: dict[str, Any]) -> Application:
    """The application on a server that gives all WebSockets these answers, and no others."""

    async def dead(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return await application(scope, receive, send)
        await receive()
        for answer in answers:
            await send(answer)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return dead


refused = with_websockets({"type": "websocket.close"})
unanswered = with_websockets()
swallowed = with_websockets({"type": "websocket.accept"})
