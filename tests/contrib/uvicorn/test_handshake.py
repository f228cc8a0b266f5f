"""Only a handshake that lacks nothing, and that browsers send so, is read without websockets."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.http11 import MAX_LINE_LENGTH
from websockets.utils import accept_key

from phx_protocol.contrib.uvicorn.handshake import answer, read, response

from .talk import KEY, request


def test_an_ordinary_handshake_is_read_into_its_parts() -> None:
    found = read(request({b"sec-websocket-protocol": b"phoenix, a"}))
    assert found is not None
    assert (found.path, found.query) == (b"/a", b"b=c")
    assert found.subprotocols == ["phoenix", "a"]
    assert found.headers[0] == (b"host", b"a") and len(found.headers) == 6
    assert found.accept == accept_key(KEY.decode())


@pytest.mark.parametrize(
    "changes",
    [
        {b"connection": b"keep-alive, Upgrade"},
        {b"upgrade": b"WebSocket"},
        {b"cookie": b"a=b; c=\xff: d"},
        {b"sec-websocket-extensions": b"permessage-deflate"},
    ],
)
def test_what_clients_send_is_ordinary(changes: Any) -> None:
    assert read(request(changes)) is not None


ODD = [
    *[{name: None} for name in (b"connection", b"upgrade", b"sec-websocket-version")],
    {b"sec-websocket-key": None},
    *[{b"sec-websocket-key": key} for key in (b"", KEY[:-1], KEY + b"=", KEY[:-4])],
    {b"sec-websocket-key": b"!" * 22 + b"=="},
    *[{b"sec-websocket-version": version} for version in (b"12", b"013", b"13, 8")],
    *[{b"upgrade": upgrade} for upgrade in (b"h2c", b"websocket, h2c", b"websocket/1")],
    *[{b"connection": value} for value in (b"close", b"upgrade2", b"upgrade,;")],
    {b"sec-websocket-protocol": b"a,, b"},
    {b"sec-websocket-protocol": b"a b"},
    {b"sec-websocket-protocol": b""},
    {b"content-length": b"1"},
    {b"transfer-encoding": b"chunked"},
    {b"x-bad": b"a\x00b"},
    {b"x bad": b"a"},
    {b"cookie": b"x" * MAX_LINE_LENGTH},
]
LINES = [
    b"POST /a HTTP/1.1",
    b"HEAD /a HTTP/1.1",
    b"GET /a HTTP/1.0",
    b"GET /a HTTP/2",
    b"GET http://a/ HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET /\xff HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"get /a HTTP/1.1",
]
TWICE = [
    b"sec-websocket-key: %b\r\n" % KEY,
    b"sec-websocket-version: 13\r\n",
    b"upgrade: websocket\r\n",
    b"origin: a\r\norigin: b\r\n",
    b"x: a\r\nx: b\r\n",
    b"no colon\r\n",
    b" folded\r\n",
]


@pytest.mark.parametrize("changes", ODD)
def test_an_odd_header_is_left_to_websockets(changes: Any) -> None:
    assert read(request(changes)) is None


@pytest.mark.parametrize("line", LINES)
def test_an_odd_request_line_is_left_to_websockets(line: bytes) -> None:
    assert read(request(line=line)) is None


@pytest.mark.parametrize("more", TWICE)
def test_a_header_that_comes_twice_is_left_to_websockets(more: bytes) -> None:
    assert read(request(more=more)) is None


def test_a_request_in_part_or_with_more_behind_it_is_left_to_websockets() -> None:
    whole = request()
    assert all(read(whole[:end]) is None for end in range(len(whole)))
    assert read(whole + b"\x81") is None


def test_extensions_are_left_to_websockets_if_the_server_has_some() -> None:
    offer = request({b"sec-websocket-extensions": b"permessage-deflate"})
    assert read(offer, extensions=True) is None
    assert read(request(), extensions=True) is not None


class Server:
    default_headers = [(b"Server", b"me")]
    scope = {"subprotocols": ["phoenix"]}


def test_the_answer_has_the_headers_of_the_server_and_the_chosen_subprotocol() -> None:
    assert answer("key", {"subprotocol": "phoenix"}, Server()) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: key\r\nserver: me\r\nSec-WebSocket-Protocol: phoenix\r\n\r\n"
    )


@pytest.mark.parametrize(
    "message", [{"headers": [(b"a", b"b")]}, {"subprotocol": "a\r\nb: c"}]
)
def test_websockets_checks_what_the_application_adds(message: Any) -> None:
    assert answer("key", message, Server()) is None
    assert response("key").headers["Sec-WebSocket-Accept"] == "key"
