"""A socket whose tokens have ids and ages."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from django.core.signing import BadSignature

from phx_protocol import Channel, event
from phx_protocol.auth.credentials import Credential
from phx_protocol.tokens import TokenSocket
from tests.support.visitor import Visitor


class RoomChannel(Channel):
    handled: ClassVar[list[Any]] = []
    ended: ClassVar[list[tuple[str, str]]] = []

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        self.handled.append(payload)
        return "ok", payload

    async def terminate(self, reason: Any) -> None:
        self.ended.append((self.socket.user.pk, str(reason)))


class NamedSocket(TokenSocket):
    """Its tokens are ``<user>/<id>/<age in seconds>``; the last two may be left out."""

    channels = {"room:*": RoomChannel}
    token_param = "token"

    async def read_token(self, token: str) -> Credential:
        name, *rest = token.split("/")
        if not name:
            raise BadSignature("it names nobody")
        id, age = [*rest, "", ""][:2]
        issued_at = time.time() - float(age) if age else None
        return Credential(
            Visitor(name), time.time() + 600, id=id or None, issued_at=issued_at
        )
