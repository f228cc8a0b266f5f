"""Finding: which adapter a connection gets."""

from __future__ import annotations

from typing import Any

from ..http import Send
from .adapter import HttpAdapter, ServerAdapter
from .daphne import DaphneAdapter, DaphneHttpAdapter
from .hidden import note_hidden
from .uvicorn import RAW_TRANSPORT, UvicornAdapter, UvicornHttpAdapter
from .wrappers import server_object, unwrap


def adapter_for(scope: dict[str, Any], send: Send) -> ServerAdapter:
    """Return the adapter to the server behind `send`; log once what is missing."""
    send = unwrap(send)
    owner, is_wrapped = server_object(scope, send)
    adapter = _adapter(scope, send, owner, is_wrapped)
    adapter.is_wrapped = is_wrapped
    if adapter.missing and scope.get("type") == "websocket":
        note_hidden(scope, send, adapter.missing)
    return adapter


def _adapter(
    scope: dict[str, Any], send: Send, owner: Any, is_wrapped: bool
) -> ServerAdapter:
    raw = (scope.get("state") or {}).get(RAW_TRANSPORT)
    if raw is not None or UvicornAdapter.knows(owner):
        return UvicornAdapter(send, owner, raw)
    if DaphneAdapter.knows(owner):
        return DaphneAdapter(send, owner, is_wrapped)
    return ServerAdapter(send)


def http_adapter_for(scope: dict[str, Any], send: Send) -> HttpAdapter:
    """Return the adapter to the server that answers an HTTP request with `send`."""
    owner, _ = server_object(scope, unwrap(send))
    if UvicornHttpAdapter.knows(owner):
        return UvicornHttpAdapter(send, owner)
    if DaphneHttpAdapter.knows(owner):
        return DaphneHttpAdapter(send, owner)
    return HttpAdapter(send)
