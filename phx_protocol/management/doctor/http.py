"""Send HTTP requests, each over a TCP connection of its own."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from typing import NamedTuple

from django.utils.html import strip_tags

from .site import Site

#: seconds that an ordinary request may take
REQUEST_TIMEOUT = 10.0


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def said(body: bytes) -> str:
    """Return the first 100 characters of an error page, without its tags."""
    return " ".join(strip_tags(body.decode(errors="replace")).split())[:100]


async def request(
    site: Site,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout: float = REQUEST_TIMEOUT,
) -> Response:
    """Return the answer to one request. Raise OSError (TimeoutError after `timeout` seconds of
    silence), or HTTPException if it is not HTTP."""
    return await asyncio.to_thread(
        _request, site, method, target, body, headers or {}, timeout
    )


def _request(
    site: Site,
    method: str,
    target: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
) -> Response:
    kind = http.client.HTTPSConnection if site.has_tls else http.client.HTTPConnection
    connection = kind(site.mount.hostname or "", site.mount.port, timeout=timeout)
    try:
        everything = {"Connection": "close", "User-Agent": "phx_doctor", **headers}
        connection.request(method, target, body or None, everything)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()
