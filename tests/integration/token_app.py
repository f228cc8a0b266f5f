"""A site with tokens that end soon: ``uvicorn tests.integration.token_app:application``.

``/token/<user>/<seconds>`` gives a token, ``/authorizations`` says how often channels were asked.
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

SALT = "short"


class Visitor:
    """A user who is in no database."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.pk = name

    def get_username(self) -> str:
        return self.pk


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


async def page(scope: Any, receive: Any, send: Any) -> None:
    _, what, *rest = scope["path"].split("/")
    if what == "token":
        name, seconds = rest
        text = sign([name, time.time() + float(seconds)], salt=SALT)
    else:
        text = str(RoomChannel.asked)
    headers = [(b"access-control-allow-origin", b"*")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


application = get_phoenix_application({"/socket": ShortSocket}, http=page)
