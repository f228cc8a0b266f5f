"""Read HTTP requests and write HTTP answers with the messages of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()
    ]


class BodyTooLarge(Exception):
    """The body of a request is larger than the limit; the rest of it was not read."""


class Disconnected(Exception):
    """The client disconnected before its request was complete."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole body of a request.

    Raise BodyTooLarge beyond `limit` bytes, and Disconnected if the client goes.
    """
    body = bytearray()  # a list of many small parts would need far more memory
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        part = event.get("body", b"")
        if len(body) + len(part) > limit:
            raise BodyTooLarge
        body += part
        if not event.get("more_body"):
            return bytes(body)


async def respond(
    send: Send, status: int, body: bytes, headers: Headers = TEXT, kind: str = "http"
) -> None:
    """Send a whole answer; `kind` is "http", or "websocket.http" for one to a handshake."""
    length = (b"content-length", b"%d" % len(body))
    await send(
        {
            "type": f"{kind}.response.start",
            "status": status,
            "headers": [length, *headers],
        }
    )
    await send({"type": f"{kind}.response.body", "body": body})
