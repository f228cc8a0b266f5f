"""The WebSocket client of the checks: it connects as phoenix.js does, or explains why it cannot."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping

from websockets.asyncio import client
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Origin, Subprotocol

from phx_protocol.transports.authentication import BEARER
from phx_protocol.wire.messages import HEARTBEAT, HEARTBEAT_TOPIC, REPLY, Message
from phx_protocol.wire.serializers import DEFAULT_SERIALIZERS, for_version

from . import advice
from .findings import CheckFailed
from .http import REQUEST_TIMEOUT, said
from .site import Site


class Refused(CheckFailed):
    """The handshake failed; `status` is that of the HTTP answer, or None without an answer."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message, advice.UPGRADE.get(status, advice.OTHER_STATUS))
        self.status = status


class _Connect(client.connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc  # browsers follow no redirect of a WebSocket


@contextlib.asynccontextmanager
async def connect(
    site: Site,
    *,
    origin: str | None = None,
    vsn: str = "2.0.0",
    auth_token: str | None = None,
    subprotocol: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[ClientConnection]:
    """Open a connection that sends nothing by itself. Raise Refused if it does not open."""
    token = auth_token or site.auth_token
    offered = [] if token is None else [Subprotocol("phoenix"), _bearer(token)]
    if subprotocol is not None:
        offered = [Subprotocol(subprotocol)]
    opening = _Connect(
        site.websocket(vsn),
        origin=None if origin is None else Origin(origin),
        subprotocols=offered or None,
        additional_headers=headers,
        user_agent_header="phx_doctor",
        proxy=None,
        open_timeout=REQUEST_TIMEOUT,
        close_timeout=1,
        ping_interval=None,
    )
    try:
        connection = await opening
    except InvalidStatus as error:
        status, headers = error.response.status_code, error.response.headers
        more = headers.get("Location") or said(bytes(error.response.body or b""))
        raise Refused(status, f"answered {status} {more}".strip()) from error
    except TimeoutError as error:
        raise Refused(None, f"no answer in {REQUEST_TIMEOUT:.0f} s") from error
    except (OSError, EOFError, WebSocketException) as error:
        raise Refused(None, str(error) or type(error).__name__) from error
    try:
        yield connection
    finally:
        await connection.close()


def _bearer(token: str) -> Subprotocol:
    encoded = base64.b64encode(token.encode()).decode().rstrip("=")
    return Subprotocol(f"{BEARER}{encoded}")


async def heartbeat(connection: ClientConnection, vsn: str = "2.0.0") -> None:
    """Send a heartbeat and wait for its reply.

    Raise DecodeError for a frame of another version, and ConnectionClosed.
    """
    serializer = for_version(vsn, DEFAULT_SERIALIZERS)
    assert serializer is not None
    beat = Message(None, "1", HEARTBEAT_TOPIC, HEARTBEAT, {})
    await connection.send(serializer.encode(beat))
    while True:
        reply = serializer.decode(await connection.recv())
        if (reply.topic, reply.event, reply.ref) == (HEARTBEAT_TOPIC, REPLY, "1"):
            return
