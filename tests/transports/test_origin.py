from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult

import pytest
from django.test import override_settings

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
        (["http://a.test"], "http://A.test", False),
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
    assert await origin_is_allowed(origin, check, dict(SCOPE)) is allowed


async def test_a_host_that_is_not_allowed_is_nobodys_own() -> None:
    scope = {**SCOPE, "headers": [(b"host", b"evil.test")]}
    assert not await origin_is_allowed("http://evil.test", True, scope)
