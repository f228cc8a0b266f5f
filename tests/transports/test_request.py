"""A handshake as Django's request object."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import ConnectInfo
from phx_protocol.transports.request import HandshakeRequest


def request_of(*headers: tuple[bytes, bytes], **scope: Any) -> HandshakeRequest:
    return HandshakeRequest(
        ConnectInfo({"path": "/socket/websocket", "headers": headers, **scope})
    )


def test_cookies_that_were_split_are_read_together() -> None:
    request = request_of((b"cookie", b"a=1"), (b"cookie", b"b=2"))
    assert request.COOKIES == {"a": "1", "b": "2"}
    assert request_of().COOKIES == {}


def test_it_has_no_body_to_parse() -> None:
    request = request_of((b"content-type", b"text/json"), (b"content-length", b"7"))
    assert request.body == b"" and not request.content_type


def test_a_query_that_is_not_utf_8_is_no_error() -> None:
    assert request_of(query_string=b"a=%E4\xe4").META["QUERY_STRING"] == "a=%E4ä"


@pytest.mark.parametrize(
    "reported, known", [("wss", "https"), ("ws", "http"), (None, None)]
)
def test_the_scheme_is_that_of_the_server(
    reported: str | None, known: str | None
) -> None:
    request = request_of(scheme=reported)
    assert request.known_scheme == known and request.scheme == (known or "http")


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_the_proxy_knows_the_scheme_better_than_the_server() -> None:
    request = request_of((b"x-forwarded-proto", b"wss, ws"), scheme="ws")
    assert request.known_scheme == "https"
