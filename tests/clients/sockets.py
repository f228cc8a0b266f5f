from __future__ import annotations

from typing import Any

from phx_protocol import Channel, event
from tests.conformance.channels import ConformanceSocket


class TokenChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("show")
    async def show(self, payload: Any) -> Any:
        return "ok", {"token": self.socket.auth_token}


class ClientSocket(ConformanceSocket):
    """The conformance socket, and a channel that tells the token that the server saw."""

    channels = {**ConformanceSocket.channels, "token": TokenChannel}


class BriefSocket(ConformanceSocket):
    """Its polls do not last."""

    longpoll = {"WINDOW": 0.5}
