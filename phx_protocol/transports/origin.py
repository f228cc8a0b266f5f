"""Whether a connection's Origin may be here (``Phoenix.Socket.Transport.check_origin``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.utils.http import is_same_domain
from django.utils.module_loading import import_string

from ..callbacks import settled

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


async def origin_is_allowed(
    origin: str | None, check: Any, scope: dict[str, Any]
) -> bool:
    """What CHECK_ORIGIN says of `origin`. A missing Origin is no browser's, and is let in.

    `check` is True (the request's own host, or CSRF_TRUSTED_ORIGINS), False, "conn" (scheme,
    host and port of this request), a list such as ``["https://a.com", "//*.b.com"]``, or a
    callable (or its dotted path) that gets the Origin as ``urllib.parse.SplitResult``.
    """
    if origin is None or check is False:
        return True
    try:
        parts = urlsplit(origin)
        parts.port  # noqa: B018 - raises ValueError on a port that is none
    except ValueError:
        return False
    if check is True:
        return _is_own_host(origin, parts, scope)
    if check == "conn":
        return _same(parts, urlsplit(_own_origin(scope) or "//"), require_scheme=True)
    if isinstance(check, str):
        check = import_string(check)
    if callable(check):
        return bool(await settled(check(parts), "CHECK_ORIGIN"))
    return any(_matches(parts, allowed) for allowed in check)


def _is_own_host(origin: str, parts: SplitResult, scope: dict[str, Any]) -> bool:
    """As Django's CSRF check of an Origin: the validated host, or one that the project trusts.

    Never the patterns of ALLOWED_HOSTS, which say what we are called and not who may come.
    """
    if origin == _own_origin(scope):
        return True
    trusted: Sequence[str] = settings.CSRF_TRUSTED_ORIGINS
    if origin in trusted:
        return True
    wildcards = (urlsplit(entry) for entry in trusted if "*" in entry)
    return any(
        parts.scheme == entry.scheme
        and is_same_domain(parts.netloc, entry.netloc.lstrip("*"))
        for entry in wildcards
    )


def _own_origin(scope: dict[str, Any]) -> str | None:
    """Scheme and host of this request as Django sees them behind its proxies, or None."""
    request = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
    scheme = {"ws": "http", "wss": "https"}.get(request.scheme or "", request.scheme)
    try:
        return f"{scheme}://{request.get_host()}"
    except DisallowedHost:
        return None


def _matches(origin: SplitResult, allowed: str) -> bool:
    return _same(origin, urlsplit(allowed))


def _same(
    origin: SplitResult, allowed: SplitResult, require_scheme: bool = False
) -> bool:
    """Each of scheme, host and port that `allowed` names must be the same, letter by letter."""
    if (allowed.scheme or require_scheme) and allowed.scheme != origin.scheme:
        return False
    port = allowed.port or _PORTS.get(allowed.scheme)
    if port is not None and port != (origin.port or _PORTS.get(origin.scheme)):
        return False
    host, pattern = _host(origin), _host(allowed)
    if pattern.startswith("*."):  # the bare domain matches as well, as in Phoenix
        return host == pattern[2:] or host.endswith(pattern[1:])
    return bool(host) and host == pattern


def _host(parts: SplitResult) -> str:
    """The host in the case it was written in, unlike ``SplitResult.hostname``."""
    host = parts.netloc.rpartition("@")[2]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
