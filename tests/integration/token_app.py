"""A site with tokens that end soon: ``uvicorn tests.integration.token_app:application``.

``/token/<user>/<seconds>`` gives a token, ``/authorizations`` says how often channels were asked,
``/connection`` which connection the request names, and ``/`` is a page.
"""

from __future__ import annotations

import os
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

from django.core.signing import BadSignature  # noqa: E402

from phx_protocol import Channel, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.tokens import Credential, TokenSocket, sign, verify  # noqa: E402
from tests.support import servers  # noqa: E402
from tests.support.visitor import Visitor  # noqa: E402

SALT = "short"


class RoomChannel(Channel):
    asked = 0

    async def authorize(self) -> bool:
        RoomChannel.asked += 1
        return True

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("shout")
    async def shout(self, payload: Any) -> Any:
        await self.broadcast("shout", payload)
        return "ok"

    @event("broadcast")
    async def broadcast_as_supabase_does(self, payload: Any) -> Any:
        await self.broadcast("broadcast", payload)
        return "ok"


class ShortSocket(TokenSocket):
    channels = {"room:*": RoomChannel, "realtime:*": RoomChannel}
    longpoll = {"WINDOW": 10}
    check_origin = False
    max_channels = 200
    token_param = "apikey"

    async def read_token(self, token: str) -> Credential:
        name, until = verify(token, salt=SALT, max_age=None)
        if until < time.time():
            raise BadSignature("it has ended")
        return Credential(Visitor(name), until)


FILES = {
    "": "tests/browser/session.html",
    "phoenix.mjs": "tests/node_modules/phoenix/priv/static/phoenix.mjs",
    "session.js": "phx_protocol/static/phx_protocol/session.js",
}
TYPES = {"html": b"text/html", "mjs": b"text/javascript", "js": b"text/javascript"}


async def page(scope: Any, receive: Any, send: Any) -> None:
    _, what, *rest = scope["path"].split("/")
    kind = b"text/plain"
    if what == "token":
        name, seconds = rest
        text = sign([name, time.time() + float(seconds)], salt=SALT)
    elif what == "connection":
        text = dict(scope["headers"]).get(b"x-phx-connection", b"none").decode()
    elif what == "authorizations":
        text = str(RoomChannel.asked)
    else:
        text = (servers.ROOT / FILES[what]).read_text()
        kind = TYPES[FILES[what].rpartition(".")[2]]
    headers = [(b"access-control-allow-origin", b"*"), (b"content-type", kind)]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


application = get_phoenix_application({"/socket": ShortSocket}, http=page)
