"""Where the sites of the tests have their sockets, and the page beside them."""

from __future__ import annotations

import io
from typing import Any

from django.core.handlers.asgi import ASGIRequest

from phx_protocol.transports.http import respond

MOUNTS = {"/socket": "phx_protocol.Socket"}


async def page(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the path that Django makes of the scope."""
    await respond(send, 200, ASGIRequest(scope, io.BytesIO()).path_info.encode())
