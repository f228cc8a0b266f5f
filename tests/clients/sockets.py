from __future__ import annotations

from typing import Any

from phx_protocol import Channel, JoinDenied, event
from tests.conformance.channels import ConformanceSocket


class TokenChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("show")
    async def show(self, payload: Any) -> Any:
        return "ok", {"token": self.socket.auth_token}


class MembersChannel(Channel):
    async def join(self, payload: Any) -> Any:
        raise JoinDenied({"reason": "members only"}, permanent=payload["permanent"])


class ClientSocket(ConformanceSocket):
    """The conformance socket, a channel that tells the token that the server saw, and one that
    lets nobody in."""

    channels = {
        **ConformanceSocket.channels,
        "token": TokenChannel,
        "members:*": MembersChannel,
    }


class BriefSocket(ConformanceSocket):
    """Its polls do not last."""

    longpoll = {"WINDOW": 0.5}
