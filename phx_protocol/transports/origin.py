"""Whether a connection's Origin may be here (``Phoenix.Socket.Transport.check_origin``)."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.utils.encoding import punycode
from django.utils.http import is_same_domain
from django.utils.module_loading import import_string

from ..concurrency.callbacks import settled
from .request import HandshakeRequest, http_scheme

_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Scheme, host and port of an Origin, or of a pattern: two ways to write the same are equal.

    ``wss://Example.COM/`` and ``https://example.com:443`` are, and the ways to write an address
    of IPv6. What is not named is "" or None; the port is not where the scheme implies none.
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> Place:
        """Raises ValueError for what is no URL."""
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


async def origin_is_allowed(
    origin: str | None, check: Any, scope: dict[str, Any]
) -> bool:
    """What CHECK_ORIGIN says of `origin`. A missing Origin is no browser's, and is let in.

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
        return is_own_origin(origin, scope)
    if check == "conn":
        return _is_own_place(place, scope)
    if isinstance(check, str):
        check = import_string(check)
    if callable(check):
        return bool(await settled(check(urlsplit(origin)), "CHECK_ORIGIN"))
    return _is_listed(origin, check)


def is_own_origin(origin: str, scope: dict[str, Any]) -> bool:
    """As Django's CSRF check of an Origin: the validated host, or one that the project trusts.

    Never the patterns of ALLOWED_HOSTS, which say what we are called and not who may come.
    """
    try:
        place = Place.of(origin)
    except ValueError:
        return False
    # as Django, which asks for their schemes
    trusted = [entry for entry in settings.CSRF_TRUSTED_ORIGINS if "://" in entry]
    return _is_own_place(place, scope) or _is_listed(origin, trusted)


def names_a_host(origin: str) -> bool:
    """Whether `origin` says whose page it is: "null" and "file://" are of many."""
    with contextlib.suppress(ValueError):
        return Place.of(origin).host != ""
    return False


def page_of(headers: Mapping[str, str]) -> str | None:
    """The Origin of the page that asks. Without the header it is the Referer's, or unknown.

    Browsers leave the header out of a GET of the page's own origin, which a poll is.
    """
    if "origin" in headers or "referer" not in headers:
        return headers.get("origin")
    with contextlib.suppress(ValueError):
        referer = urlsplit(headers["referer"])
        return f"{referer.scheme}://{referer.netloc}"
    return None


def _is_own_place(place: Place, scope: dict[str, Any]) -> bool:
    """Whether `place` has the scheme, host and port of this request, as Django sees them."""
    request = HandshakeRequest(scope)
    if request.known_scheme is None and not _may_be_ours(place.scheme):
        return False
    scheme = request.known_scheme or place.scheme
    try:
        return place == Place.of(f"{scheme}://{request.get_host()}")
    except (DisallowedHost, ValueError):
        return False


def _may_be_ours(scheme: str) -> bool:
    """Whether pages here can have `scheme`, for a request that does not tell its own."""
    return scheme == "https" or (scheme == "http" and not settings.SECURE_SSL_REDIRECT)


def _is_listed(origin: str, allowed: Iterable[str]) -> bool:
    place = Place.of(origin)
    return any(
        _bare(origin) == _bare(entry) != "" or _matches(place, Place.of(entry))
        for entry in allowed
    )


def _bare(origin: str) -> str:
    """For what has no host to be compared by: ``null``, ``file://``, ``app://.``"""
    return origin.rstrip("/").lower()


def _matches(place: Place, allowed: Place) -> bool:
    """Whether each of scheme, host and port that `allowed` names is the same."""
    if allowed.scheme not in ("", place.scheme):
        return False
    if allowed.port not in (None, place.port):
        return False
    if allowed.host.startswith("*"):  # the bare domain as well, as in Phoenix
        return is_same_domain(place.host, allowed.host.lstrip("*"))
    return place.host == allowed.host != ""
