"""A handshake or a poll as the HTTP request for which Django would take it."""

from __future__ import annotations

import functools
import io
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest

#: headers about a body, which is not here to be parsed
_OF_THE_BODY = frozenset({b"content-type", b"content-length"})


def http_scheme(text: str) -> str:
    """The scheme that pages have where `text` says "ws" or "wss"; of a list the first counts."""
    first = text.partition(",")[0].strip().lower()
    return {"ws": "http", "wss": "https"}.get(first, first)


class HandshakeRequest(ASGIRequest):
    """The request of `scope`, without a body: its host, scheme and headers as Django reads them.

    A WebSocket's "wss" is "https", whether the server says it or a proxy (Traefik) in the header
    of SECURE_PROXY_SSL_HEADER.
    """

    def __init__(self, scope: dict[str, Any], method: str = "GET") -> None:
        headers = [
            pair for pair in scope["headers"] if pair[0].lower() not in _OF_THE_BODY
        ]
        changes = {"method": method, "headers": headers, "query_string": b""}
        super().__init__({**scope, **changes}, io.BytesIO())
        # Django reads UTF-8, which clients need not send
        query: bytes = scope.get("query_string", b"")
        self.META["QUERY_STRING"] = query.decode("latin-1")
        # HTTP/2 may split them, and Django joins with a comma
        cookies = [v.decode("latin-1") for k, v in headers if k.lower() == b"cookie"]
        self.META["HTTP_COOKIE"] = "; ".join(cookies)

    @functools.cached_property
    def known_scheme(self) -> str | None:
        """The scheme, "https" or "http"; None where neither a proxy nor the server says it.

        Daphne never does of a WebSocket.
        """
        if settings.SECURE_PROXY_SSL_HEADER:
            name, secure = settings.SECURE_PROXY_SSL_HEADER
            told = self.META.get(name)
            if told is not None:
                is_secure = http_scheme(told) == http_scheme(secure)
                return "https" if is_secure else "http"
        told = self.scope.get("scheme")
        return http_scheme(told) if told else None

    @property
    def scheme(self) -> str:
        """As Django's, which takes for "http" what nobody says."""
        return self.known_scheme or "http"
