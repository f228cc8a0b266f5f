"""ConnectInfo: what the HTTP request of a connection contains, computed when it is read."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from django.http.cookie import parse_cookie


class ConnectInfo:
    """A view of an ASGI scope with the keys of Phoenix's ``connect_info``."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        # the last header of each name, not decoded: few of them are asked for
        self._last: dict[bytes, bytes] | None = None

    @functools.cached_property
    def headers(self) -> list[tuple[str, str]]:
        """All request headers in order, names in lower case, decoded as Latin-1."""
        return [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in self._pairs()
        ]

    def header(self, name: str) -> str | None:
        """The last header called `name` (in lower case), or None. Of cookies, which HTTP/2 may split, all."""
        if self._last is None:
            self._last = {key.lower(): value for key, value in self._pairs()}
        value = self._last.get(name.encode("latin-1"))
        if value is None:
            return None
        if name == "cookie":
            value = b"; ".join(
                v for key, v in self._pairs() if key.lower() == b"cookie"
            )
        return value.decode("latin-1")

    def _pairs(self) -> Iterable[tuple[bytes, bytes]]:
        pairs: Iterable[tuple[bytes, bytes]] = self.scope.get("headers", ())
        return pairs

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, as Django reads them."""
        return parse_cookie(self.header("cookie") or "")

    @property
    def uri(self) -> str:
        """The URL of the request, as far as the server knows it."""
        scheme = self.scope.get("scheme", "ws")
        query = self.scope.get("query_string", b"").decode("latin-1")
        url = f"{scheme}://{self.header('host') or ''}{self.scope.get('path', '')}"
        return f"{url}?{query}" if query else url

    @property
    def peer(self) -> tuple[str, int] | None:
        """Address and port of the other end of the TCP connection."""
        client = self.scope.get("client")
        return (client[0], client[1]) if client else None

    @property
    def user_agent(self) -> str | None:
        """The header of that name."""
        return self.header("user-agent")

    @property
    def x_headers(self) -> list[tuple[str, str]]:
        """The headers that begin with ``x-``."""
        return [pair for pair in self.headers if pair[0].startswith("x-")]

    @property
    def trace_headers(self) -> list[tuple[str, str]]:
        """``traceparent`` and ``tracestate``, for tracing."""
        return [
            pair for pair in self.headers if pair[0] in ("traceparent", "tracestate")
        ]
