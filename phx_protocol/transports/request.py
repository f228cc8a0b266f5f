"""HandshakeRequest: a handshake or a poll as Django's request object."""

from __future__ import annotations

import functools
import io

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest

from ..socket.connect_info import ConnectInfo

#: headers about a body: the request has none that Django could parse
_OF_THE_BODY = frozenset({b"content-type", b"content-length"})


def http_scheme(text: str) -> str:
    """Return `text` with "http" for "ws" and "https" for "wss"; of a list the first counts."""
    first = text.partition(",")[0].strip().lower()
    return {"ws": "http", "wss": "https"}.get(first, first)


class HandshakeRequest(ASGIRequest):
    """The request of `info` without its body: its host, scheme and headers as Django reads them.

    The scheme "wss" becomes "https", whether it comes from the server or from a proxy (Traefik)
    in the header of SECURE_PROXY_SSL_HEADER.
    """

    def __init__(self, info: ConnectInfo, method: str = "GET") -> None:
        self.info, scope = info, info.scope
        headers = [
            pair for pair in scope["headers"] if pair[0].lower() not in _OF_THE_BODY
        ]
        changes = {"method": method, "headers": headers, "query_string": b""}
        super().__init__({**scope, **changes}, io.BytesIO())
        # Django would decode UTF-8, but clients may send other bytes
        query: bytes = scope.get("query_string", b"")
        self.META["QUERY_STRING"] = query.decode("latin-1")
        # Django would join split cookies with a comma
        self.META["HTTP_COOKIE"] = info.header("cookie") or ""

    @functools.cached_property
    def known_scheme(self) -> str | None:
        """The scheme, "https" or "http"; None if neither a proxy nor the server reports it.

        Daphne never reports that of a WebSocket.
        """
        if settings.SECURE_PROXY_SSL_HEADER:
            name, secure = settings.SECURE_PROXY_SSL_HEADER
            reported = self.META.get(name)
            if reported is not None:
                is_secure = http_scheme(reported) == http_scheme(secure)
                return "https" if is_secure else "http"
        reported = self.scope.get("scheme")
        return http_scheme(reported) if reported else None

    @property
    def scheme(self) -> str:
        """The scheme as Django has it: "http" if it is unknown."""
        return self.known_scheme or "http"
