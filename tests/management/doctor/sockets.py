from __future__ import annotations

from typing import Any

from phx_protocol import ConnectionRefused, Socket


class OpenSocket(Socket):
    """Lets pages of everywhere in, and does not bear silence for long."""

    check_origin = False
    timeout = 1


class GuardedSocket(Socket):
    """Accepts clients with the token: as a parameter, or as phoenix.js's authToken."""

    longpoll = False

    async def connect(self, params: dict[str, Any]) -> None:
        if "good" not in (params.get("token"), self.auth_token):
            raise ConnectionRefused(403, "a token is wanted")


class NewSocket(Socket):
    """Speaks V2 only."""

    serializers = {"~> 2.0.0": "phx_protocol.wire.serializers.V2JSONSerializer"}
