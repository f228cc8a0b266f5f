"""The request of a connection, as a Socket sees it."""

from __future__ import annotations

from phx_protocol import ConnectInfo

REQUEST = ConnectInfo(
    {
        "scheme": "wss",
        "path": "/socket/websocket",
        "query_string": b"vsn=2.0.0",
        "client": ("192.0.2.1", 4711),
        "headers": [
            (b"Host", b"example.com"),
            (b"cookie", b"sessionid=abc"),
            (b"x-city", b"K\xf6ln"),
            (b"cookie", b'theme="dark"; lang=de'),
            (b"x-city", b"Bonn"),
            (b"traceparent", b"00-1-2-3"),
            (b"user-agent", b"phoenix.js"),
        ],
    }
)


def test_of_two_headers_with_one_name_the_last_counts() -> None:
    assert REQUEST.header("x-city") == "Bonn"
    assert REQUEST.header("x-town") is None
    assert REQUEST.x_headers == [("x-city", "Köln"), ("x-city", "Bonn")]


def test_cookies_that_were_split_are_read_together() -> None:
    assert REQUEST.header("cookie") == 'sessionid=abc; theme="dark"; lang=de'
    assert REQUEST.cookies == {"sessionid": "abc", "theme": "dark", "lang": "de"}


def test_a_request_without_headers_has_no_cookies() -> None:
    assert ConnectInfo({}).cookies == {}
    assert ConnectInfo({}).uri == "ws://"


def test_it_has_what_phoenix_calls_connect_info() -> None:
    assert REQUEST.uri == "wss://example.com/socket/websocket?vsn=2.0.0"
    assert REQUEST.peer == ("192.0.2.1", 4711)
    assert REQUEST.user_agent == "phoenix.js"
    assert REQUEST.trace_headers == [("traceparent", "00-1-2-3")]
