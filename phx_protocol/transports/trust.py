"""Whose request this is: when the session's user counts, and loading it.

A browser sends cookies with every WebSocket handshake, whichever page asked for it. So the
session counts only when the page is known to be ours; otherwise the visitor is anonymous.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from channels.auth import UserLazyObject
from django.apps import apps
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.cookie import parse_cookie
from django.middleware.csrf import CsrfViewMiddleware

from ..exceptions import ConnectionRefused
from ..permissions import SOURCE
from ..sessions import read_user, session_source, session_store

BEARER = "base64url.bearer.phx."


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    """The request's headers by name in lower case; of two with one name the last counts.

    But for cookies, which HTTP/2 may split.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "cookie" and name in headers:
            value = f"{headers[name]}; {value}"
        headers[name] = value
    return headers


async def authenticate(
    scope: dict[str, Any],
    headers: dict[str, str],
    params: dict[str, Any],
    origin_checked: bool,
) -> None:
    """Put ``session`` and ``user`` into `scope`, as far as they can be trusted.

    Trusted is a request with an Origin that was checked (`origin_checked`), with
    ``Sec-Fetch-Site: same-origin``, or with a valid ``_csrf_token`` parameter. What another
    middleware put there by its own means (a token, say) stays.
    """
    if not apps.is_installed("django.contrib.auth"):
        return
    if "user" in scope and not isinstance(scope["user"], UserLazyObject):
        return
    from django.contrib.auth.models import AnonymousUser

    scope["user"] = AnonymousUser()
    cookies = parse_cookie(headers.get("cookie", ""))
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return
    session = session_store(key)
    if (
        origin_checked
        or headers.get("sec-fetch-site") == "same-origin"
        or _csrf_token_is_valid(params.get("_csrf_token"), cookies, session)
    ):
        scope["session"] = session
        user = scope["user"] = await read_user(session)
        scope[SOURCE] = session_source(session, user)


def _csrf_token_is_valid(token: Any, cookies: dict[str, str], session: Any) -> bool:
    """What Django's own middleware says of a request that is nothing but this token."""
    if not isinstance(token, str) or settings.CSRF_USE_SESSIONS:
        return False
    request = HttpRequest()
    request.method = "POST"
    request.COOKIES = cookies
    request.META = {settings.CSRF_HEADER_NAME: token}
    check = CsrfViewMiddleware(lambda request: HttpResponse())
    check.process_request(request)
    return check.process_view(request, lambda request: HttpResponse(), (), {}) is None


def bearer_token(scope: dict[str, Any]) -> str | None:
    """phoenix.js's ``authToken``: a subprotocol entry with the token in base64.

    Despite its name it is the standard alphabet; both are read. Two entries are no token.
    Raises ConnectionRefused for one that is not base64.
    """
    entries = [
        entry for entry in scope.get("subprotocols", ()) if entry.startswith(BEARER)
    ]
    if len(entries) != 1:
        return None
    encoded = entries[0][len(BEARER) :].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), validate=True
        ).decode()
    except (binascii.Error, ValueError) as error:
        raise ConnectionRefused(400, "the bearer token is not base64") from error
