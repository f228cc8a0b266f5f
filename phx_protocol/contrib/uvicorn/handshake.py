"""The ordinary handshake: the request is read in one pass, and its answer is one ``bytes`` object.

uvicorn's HTTP parser has read the request already, and gives it to the WebSocket class as lines with
names in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from websockets.datastructures import Headers
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Response
from websockets.utils import accept_key

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:%b: [\t -~\x80-\xff]*\r\n)+)\r\n" % _TOKEN
)
#: the ordinary values of ``Connection``
_CONNECTIONS = (b"upgrade", b"keep-alive, upgrade")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
#: headers of a request with a body
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
_SUBPROTOCOLS = re.compile(rb"%b(?:, ?%b)*" % (_TOKEN, _TOKEN))

_ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
)


class Handshake(NamedTuple):
    """A request that asks for a WebSocket, and lacks nothing."""

    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    subprotocols: list[str]
    #: the value of ``Sec-WebSocket-Accept`` in the answer
    accept: str


def read(request: bytes, extensions: bool = False) -> Handshake | None:
    """Return the handshake in `request`; None if it is not an ordinary one, so that websockets must judge it.

    That is one with a header twice, with a header that is not as browsers send it, a very long one,
    or one that offers extensions, if `extensions` is True: the server may accept some.
    """
    parts = _REQUEST.fullmatch(request) if len(request) <= MAX_LINE_LENGTH else None
    if parts is None:
        return None
    headers = [_header(line) for line in parts[2][:-2].split(b"\r\n")]
    by_name = dict(headers)
    if len(by_name) != len(headers) or not _is_ordinary(by_name, extensions):
        return None
    path, _, query = parts[1].partition(b"?")
    offered = by_name.get(b"sec-websocket-protocol")
    subprotocols = [] if offered is None else offered.decode().split(",")
    key = accept_key(by_name[b"sec-websocket-key"].decode())
    return Handshake(path, query, headers, [s.strip() for s in subprotocols], key)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value.strip(b" \t")


def _is_ordinary(headers: dict[bytes, bytes], extensions: bool) -> bool:
    """Return whether the headers are those of a handshake (RFC 6455, 4.2.1), in their ordinary form."""
    get, offered = headers.get, headers.get(b"sec-websocket-protocol")
    return (
        get(b"sec-websocket-version") == b"13"
        and get(b"upgrade", b"").lower() == b"websocket"
        and get(b"connection", b"").lower() in _CONNECTIONS
        and _KEY.fullmatch(get(b"sec-websocket-key", b"")) is not None
        and (offered is None or _SUBPROTOCOLS.fullmatch(offered) is not None)
        and not (extensions and b"sec-websocket-extensions" in headers)
        and _OF_A_BODY.isdisjoint(headers)
        and len(headers) <= MAX_NUM_HEADERS
    )


class Server(Protocol):
    """The attributes of uvicorn's protocol object that ``answer`` reads."""

    default_headers: list[tuple[bytes, bytes]]
    scope: Any


def answer(accept: str, message: Mapping[str, Any], server: Server) -> bytes | None:
    """Return the answer to the handshake with the key `accept` that `message` (``websocket.accept``) accepts.

    Return None if the message has headers, or a subprotocol that the client has not offered: then
    websockets must check them.
    """
    subprotocol = message.get("subprotocol") or None
    if message.get("headers"):
        return None
    lines = [
        b"%b: %b\r\n" % (name.lower(), value) for name, value in server.default_headers
    ]
    if subprotocol is not None:
        if subprotocol not in server.scope["subprotocols"]:
            return None
        lines.append(b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode())
    return _ACCEPT % (accept.encode(), b"".join(lines))


def response(accept: str) -> Response:
    """Return the answer as websockets' ``accept`` makes it, for headers to be added."""
    headers = Headers(Date="", Upgrade="websocket", Connection="Upgrade")
    headers["Sec-WebSocket-Accept"] = accept
    return Response(101, "Switching Protocols", headers)
