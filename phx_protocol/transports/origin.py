"""Check the Origin of a connection (``Phoenix.Socket.Transport.check_origin``)."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.utils.encoding import punycode
from django.utils.http import is_same_domain
from django.utils.module_loading import import_string

from ..concurrency.callbacks import settled
from ..socket.connect_info import ConnectInfo
from .request import HandshakeRequest, http_scheme

_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """The scheme, host and port of an Origin or of a pattern, in one normal form.

    ``wss://Example.COM/`` and ``https://example.com:443`` are equal, and so are the ways to write
    one IPv6 address. A missing scheme or host is "". A missing port is that of the scheme, or
    None if the scheme has no usual port.
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> Place:
        """Parse an Origin or a pattern. Raise ValueError if it is not a URL."""
        parts = urlsplit(text)
        scheme, port = http_scheme(parts.scheme), parts.port
        host = _one_form(parts.hostname or "")
        return cls(scheme, host, _PORTS.get(scheme) if port is None else port)


def _one_form(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    with contextlib.suppress(UnicodeError):
        host = punycode(host)
    return host.removesuffix(".") or host


async def origin_is_allowed(origin: str | None, check: Any, info: ConnectInfo) -> bool:
    """Return whether CHECK_ORIGIN allows `origin`.

    A missing Origin is allowed: every browser sends one, so the client is not a browser.

    `check` is True (the request's own host, or CSRF_TRUSTED_ORIGINS), False, "conn" (scheme,
    host and port of this request), a list such as ``["https://a.com", "//*.b.com", "null"]``, or
    a callable (or its dotted path) that gets the Origin as ``urllib.parse.SplitResult``.
    """
    if origin is None or check is False:
        return True
    try:
        place = Place.of(origin)
    except ValueError:
        return False
    if check is True:
        return is_own_origin(origin, info)
    if check == "conn":
        return _is_own_place(place, info)
    if isinstance(check, str):
        check = import_string(check)
    if callable(check):
        return bool(await settled(check(urlsplit(origin)), "CHECK_ORIGIN"))
    return _is_listed(origin, check)


def is_own_origin(origin: str, info: ConnectInfo) -> bool:
    """Return whether `origin` is the request's own host or in CSRF_TRUSTED_ORIGINS.

    This is Django's CSRF check of an Origin. The patterns of ALLOWED_HOSTS do not count: they
    name our hosts, not the pages that may connect.
    """
    try:
        place = Place.of(origin)
    except ValueError:
        return False
    # Django demands a scheme in each entry
    trusted = [entry for entry in settings.CSRF_TRUSTED_ORIGINS if "://" in entry]
    return _is_own_place(place, info) or _is_listed(origin, trusted)


def names_a_host(origin: str) -> bool:
    """Return whether `origin` has a host. "null" and "file://" have none: any page can have them."""
    with contextlib.suppress(ValueError):
        return Place.of(origin).host != ""
    return False


def page_of(info: ConnectInfo) -> str | None:
    """Return the Origin of the page that sends the request, or None if it is unknown.

    It comes from the Origin header, or else from the Referer: browsers send no Origin with a GET
    to the page's own origin, such as a poll.
    """
    origin, referer = info.header("origin"), info.header("referer")
    if origin is not None or referer is None:
        return origin
    with contextlib.suppress(ValueError):
        parts = urlsplit(referer)
        return f"{parts.scheme}://{parts.netloc}"
    return None


def _is_own_place(place: Place, info: ConnectInfo) -> bool:
    """Return whether `place` is the scheme, host and port of this request, as Django sees them."""
    request = HandshakeRequest(info)
    if request.known_scheme is None and not _may_be_ours(place.scheme):
        return False
    scheme = request.known_scheme or place.scheme
    try:
        return place == Place.of(f"{scheme}://{request.get_host()}")
    except (DisallowedHost, ValueError):
        return False


def _may_be_ours(scheme: str) -> bool:
    """Return whether our pages can have `scheme`, for a request whose own scheme is unknown."""
    return scheme == "https" or (scheme == "http" and not settings.SECURE_SSL_REDIRECT)


def _is_listed(origin: str, allowed: Iterable[str]) -> bool:
    place = Place.of(origin)
    return any(
        _bare(origin) == _bare(entry) != "" or _matches(place, Place.of(entry))
        for entry in allowed
    )


def _bare(origin: str) -> str:
    """Return `origin` in a form to compare those without a host: ``null``, ``file://``, ``app://.``"""
    return origin.rstrip("/").lower()


def _matches(place: Place, allowed: Place) -> bool:
    """Return whether `place` has the scheme, host and port that `allowed` names."""
    if allowed.scheme not in ("", place.scheme):
        return False
    if allowed.port not in (None, place.port):
        return False
    if allowed.host.startswith("*"):  # matches the domain itself as well, as in Phoenix
        return is_same_domain(place.host, allowed.host.lstrip("*"))
    return place.host == allowed.host != ""
