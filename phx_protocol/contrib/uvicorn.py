"""A WebSocket protocol class for uvicorn, with which a frame is framed once for all who get it.

::

    uvicorn --ws phx_protocol.contrib.uvicorn:PhoenixWebSocketProtocol project.asgi:application

It is uvicorn's own and offers its transport to the application, in the scope's state;
everything else, the handshake, pings and what clients send, is uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

from ..transports.edge import TRANSPORT


class PhoenixWebSocketProtocol(WebSocketsSansIOProtocol):
    """For the option ``--ws`` (``ws=`` of ``uvicorn.Config``)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvicorn copies it into scope["state"]
        self.app_state: dict[str, Any] = {**self.app_state, TRANSPORT: transport}
