from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings

from phx_protocol import ConnectInfo
from phx_protocol.transports.origin import origin_is_allowed

SCOPE = {
    "type": "websocket",
    "path": "/socket/websocket",
    "scheme": "ws",
    "headers": [(b"host", b"example.com:8000")],
    "query_string": b"",
}


def only_ours(origin: SplitResult) -> bool:
    return origin.hostname == "ours.test"


@pytest.mark.parametrize(
    "check, origin, allowed",
    [
        (True, None, True),
        (True, "http://example.com:8000", True),
        (True, "http://example.com", False),
        (True, "https://example.com:8000", False),
        (
            True,
            "http://testserver",
            False,
        ),  # in ALLOWED_HOSTS, but not this request's host
        (True, "https://trusted.test", True),
        (True, "https://a.sub.test", True),
        (True, "https://sub.test.evil", False),
        (True, "null", False),
        (False, "http://evil.test", True),
        ("conn", "http://example.com:8000", True),
        ("conn", "http://example.com:9000", False),
        (["http://a.test"], "http://a.test", True),
        (["http://a.test"], "http://a.test:80", True),
        (["http://a.test"], "http://a.test:8080", False),
        (["http://a.test"], "https://a.test", False),
        (["http://a.test"], "http://A.test", True),
        (["http://a.test"], "http://a.test/path", True),
        (["//a.test"], "https://a.test:444", True),
        (["//a.test:888"], "http://a.test:888", True),
        (["//a.test:888"], "http://a.test", False),
        (["//*.a.test"], "http://b.a.test", True),
        (["//*.a.test"], "http://a.test", True),
        (["//*.a.test"], "http://xa.test", False),
        (["http://a.test"], "http://a.test:port", False),
        ([], "http://a.test", False),
        (only_ours, "http://ours.test", True),
        (f"{__name__}.only_ours", "http://other.test", False),
    ],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["https://trusted.test", "https://*.sub.test"])
async def test_origins(check: Any, origin: str | None, allowed: bool) -> None:
    assert await origin_is_allowed(origin, check, ConnectInfo(SCOPE)) is allowed


def scope_of(host: str, **changes: Any) -> dict[str, Any]:
    headers = [(b"host", host.encode()), *changes.pop("headers", [])]
    return {**SCOPE, "headers": headers, **changes}


SAME = [  # scheme of the request, its Host, Origins of its own pages
    ("ws", "example.com", "http://example.com"),
    ("ws", "example.com", "ws://example.com"),
    ("ws", "example.com", "http://EXAMPLE.com:80/"),
    ("ws", "example.com:80", "http://example.com"),
    ("ws", "Example.COM", "http://example.com"),
    ("wss", "example.com", "wss://example.com"),
    ("wss", "example.com", "https://example.com/"),
    ("wss", "example.com", "WSS://example.com:443/"),
    ("wss", "example.com:443", "https://example.com"),
    ("https", "example.com.", "https://example.com."),
    ("wss", "example.com:8443", "wss://example.com:8443"),
    ("ws", "[::1]:8000", "http://[::1]:8000"),
    ("ws", "[0:0::1]:8000", "ws://[::1]:8000/"),
    ("wss", "[::1]", "https://[::1]:443"),
]
OTHER = [
    ("ws", "example.com", "https://example.com"),
    ("wss", "example.com", "ws://example.com"),
    ("wss", "example.com", "https://example.com:80"),
    ("wss", "example.com", "https://example.com:0"),
    ("wss", "example.com", "https://example.com.evil.test"),
    ("wss", "example.com", "https://example.com@evil.test"),
    ("wss", "example.com", "https://evil.test/example.com"),
    ("wss", "example.com", "https://evil.test#example.com"),
    ("wss", "example.com", "capacitor://example.com"),
    ("ws", "[::1]:8000", "http://[::2]:8000"),
    ("ws", "[::1]:8000", "http://[::1"),
    ("ws", "example.com", "null"),
    ("ws", "example.com", "file://"),
    ("ws", "example.com", ""),
]


@pytest.mark.parametrize("check", [True, "conn"])
@override_settings(ALLOWED_HOSTS=["example.com", "[::1]", "[0:0::1]"])
async def test_the_same_host_is_the_same_host_in_whatever_way_it_is_written(
    check: Any,
) -> None:
    for scheme, host, origin in SAME:
        scope = scope_of(host, scheme=scheme)
        assert await origin_is_allowed(origin, check, ConnectInfo(scope)), (
            host,
            origin,
        )
    for scheme, host, origin in OTHER:
        scope = scope_of(host, scheme=scheme)
        assert not await origin_is_allowed(origin, check, ConnectInfo(scope)), (
            host,
            origin,
        )


@pytest.mark.parametrize(
    "entry, origin, allowed",
    [
        ("https://a.test", "wss://A.test:443/", True),
        ("wss://a.test", "https://a.test", True),
        ("https://a.test/", "https://a.test", True),
        ("https://A.Test:443", "https://a.test", True),
        ("https://a.test:8443", "https://a.test", False),
        ("https://*.a.test", "wss://b.A.test/", True),
        ("https://*.a.test", "https://b.a.test:8443", False),
        ("https://*.a.test:8443", "https://b.a.test:8443", True),
        ("https://bücher.test", "https://xn--bcher-kva.test", True),
        ("https://[::1]:8000", "https://[0:0:0:0:0:0:0:1]:8000", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("capacitor://localhost", "ionic://localhost", False),
        ("https://*", "https://a.test", False),
    ],
)
async def test_an_entry_matches_the_same_host_in_lists_and_in_csrf_trusted_origins(
    entry: str, origin: str, allowed: bool
) -> None:
    assert await origin_is_allowed(origin, [entry], ConnectInfo(SCOPE)) is allowed
    with override_settings(CSRF_TRUSTED_ORIGINS=[entry]):
        assert await origin_is_allowed(origin, True, ConnectInfo(SCOPE)) is allowed


@pytest.mark.parametrize("entry", ["null", "file://", "app://.", "tauri://localhost"])
async def test_an_exact_entry_matches_an_origin_without_a_host(entry: str) -> None:
    others = {"null", "file://", "app://.", "tauri://localhost", "", "//"} - {entry}
    assert await origin_is_allowed(entry, ["https://a.test", entry], ConnectInfo(SCOPE))
    assert await origin_is_allowed(entry, [entry.upper()], ConnectInfo(SCOPE))
    for other in others:
        assert not await origin_is_allowed(other, [entry], ConnectInfo(SCOPE))
    assert not await origin_is_allowed("null", ["//"], ConnectInfo(SCOPE))


@pytest.mark.parametrize(
    "proto, scheme",
    [
        ("https", "https"),
        ("wss", "https"),
        ("WSS", "https"),
        ("wss,https", "https"),
        ("https, http", "https"),
        ("http", "http"),
        ("ws", "http"),
        ("ws,https", "http"),
        ("http, wss", "http"),
        ("", "http"),
    ],
)
@pytest.mark.parametrize("secure", ["https", "wss"])
async def test_wss_of_a_proxy_is_https(proto: str, scheme: str, secure: str) -> None:
    scope = scope_of("example.com", headers=[(b"x-forwarded-proto", proto.encode())])
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", secure)):
        for page in ("http", "https"):
            origin = f"{page}://example.com"
            answer = await origin_is_allowed(origin, True, ConnectInfo(scope))
            assert answer is (page == scheme)


@pytest.mark.parametrize("proto", ["wss", "https", "wss,https", "https,http"])
async def test_the_scheme_that_a_server_took_over_from_a_proxy_counts(
    proto: str,
) -> None:
    scope = scope_of("example.com", scheme=proto)
    assert await origin_is_allowed("https://example.com", True, ConnectInfo(scope))
    assert not await origin_is_allowed("http://example.com", True, ConnectInfo(scope))


@pytest.mark.parametrize("check", [True, "conn"])
async def test_where_the_scheme_is_unknown_the_host_decides(check: Any) -> None:
    scope = scope_of("example.com")
    del scope["scheme"]
    for origin in ("https://example.com", "http://example.com", "wss://example.com"):
        assert await origin_is_allowed(origin, check, ConnectInfo(scope)), origin
    for origin in ("https://evil.test", "https://example.com:80", "ftp://example.com"):
        assert not await origin_is_allowed(origin, check, ConnectInfo(scope)), origin
    with override_settings(SECURE_SSL_REDIRECT=True):  # there are no pages of http
        assert await origin_is_allowed("https://example.com", check, ConnectInfo(scope))
        assert not await origin_is_allowed(
            "http://example.com", check, ConnectInfo(scope)
        )


class Later:
    """Callable, and what it returns is to be awaited."""

    def __call__(self, origin: SplitResult) -> Any:
        return sync_to_async(only_ours)(origin)


@pytest.mark.parametrize("check", [Later(), lambda parts: Later()(parts)])
async def test_a_callable_of_whatever_kind_is_awaited(check: Any) -> None:
    assert await origin_is_allowed("http://ours.test", check, ConnectInfo(SCOPE))
    assert not await origin_is_allowed("http://evil.test", check, ConnectInfo(SCOPE))


async def test_a_host_that_is_not_allowed_is_nobodys_own() -> None:
    scope = {**SCOPE, "headers": [(b"host", b"evil.test")]}
    assert not await origin_is_allowed("http://evil.test", True, ConnectInfo(scope))
