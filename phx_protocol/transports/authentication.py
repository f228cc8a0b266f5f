"""Find the user of a request, and decide whether its session may be trusted.

A browser sends cookies with every WebSocket handshake, whichever page asked for it. So the
session counts only when the page is known to be ours; otherwise the visitor is anonymous.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from channels.auth import UserLazyObject
from django.apps import apps
from django.conf import settings
from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from ..auth.permissions import SOURCE, TRUSTED
from ..auth.sessions import read_user, session_source, session_store
from ..exceptions import ConnectionRefused
from ..logs import get_logger
from ..socket.connect_info import ConnectInfo
from .origin import is_own_origin
from .request import HandshakeRequest

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

logger = get_logger("phx_protocol.transport")

BEARER = "base64url.bearer.phx."


async def authenticate(
    info: ConnectInfo, params: dict[str, Any], is_known_page: bool
) -> None:
    """Put ``session`` and ``user`` into the scope of `info`, as far as they can be trusted.

    A request is trusted if its page is known (`is_known_page`), if it has ``Sec-Fetch-Site:
    same-origin``, or if Django would accept a POST with its ``_csrf_token`` parameter. From
    every other request, remove the session that a middleware found by the cookie. A user or
    session that a middleware found in another way (by a token, for example) stays.
    """
    scope = info.scope
    cookies = info.header("cookie")
    key = info.cookies.get(settings.SESSION_COOKIE_NAME) if cookies else None
    session = session_store(key) if key else None
    is_trusted = (
        is_known_page
        or info.header("sec-fetch-site") == "same-origin"
        or await _csrf_token_is_valid(params.get("_csrf_token"), info, session)
    )
    if is_trusted:
        scope[TRUSTED] = True
    if not is_trusted or session is None:
        _take_away(scope, cookies or "")
    if not apps.is_installed("django.contrib.auth"):
        return
    if "user" in scope and not isinstance(scope["user"], UserLazyObject):
        return
    from django.contrib.auth.models import AnonymousUser

    scope["user"] = AnonymousUser()
    if is_trusted and session is not None:
        scope["session"] = session
        user = scope["user"] = await read_user(session)
        scope[SOURCE] = session_source(session, user)


def _take_away(scope: dict[str, Any], cookies: str) -> None:
    """Remove the session that a middleware found by a cookie; `cookies` is the cookie header."""
    key = getattr(scope.get("session"), "session_key", None)
    # search the whole header: of two cookies with one name, the middleware may read the other one
    if key and key in cookies:
        scope["session"] = session_store()
    if settings.SESSION_COOKIE_NAME in scope.get("cookies", ()):
        scope["cookies"] = dict(scope["cookies"])
        del scope["cookies"][settings.SESSION_COOKIE_NAME]


class _CsrfCheck(CsrfViewMiddleware):
    """Django's check of CSRF, with our comparison of origins and without an error page."""

    def _origin_verified(self, request: Any) -> bool:
        return is_own_origin(request.META["HTTP_ORIGIN"], request.info)

    def _reject(self, request: Any, reason: str) -> Any:
        logger.warning("%s: _csrf_token is ignored: %.200s", request.path, reason)
        return reason


async def _csrf_token_is_valid(
    token: Any, info: ConnectInfo, session: SessionBase | None
) -> bool:
    """Return whether Django would accept this request as a POST with `token`.

    Django checks its Origin and Referer too.
    """
    if not isinstance(token, str):
        return False
    request: Any = HandshakeRequest(info, "POST")
    request.META[settings.CSRF_HEADER_NAME] = token
    if settings.CSRF_USE_SESSIONS:
        session = session_store() if session is None else session
        await session.aget(
            ""
        )  # load it here: the check is sync and must not read on the loop
        request.session = session
    check = _CsrfCheck(lambda request: HttpResponse())
    check.process_request(request)
    return check.process_view(request, lambda request: HttpResponse(), (), {}) is None


def bearers(subprotocols: Iterable[str]) -> list[str]:
    """Return those of the offered `subprotocols` that carry a token."""
    return [entry for entry in subprotocols if entry.startswith(BEARER)]


def bearer_token(scope: dict[str, Any]) -> str | None:
    """Return phoenix.js's ``authToken``: the offered subprotocol that carries it in base64.

    Its prefix says base64url, but phoenix.js writes the standard alphabet; both are read. Return
    None if there is no such entry, or more than one. Raise ConnectionRefused if it is not base64.
    """
    entries = bearers(scope.get("subprotocols", ()))
    if len(entries) != 1:
        return None
    encoded = entries[0][len(BEARER) :].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), validate=True
        ).decode()
    except (binascii.Error, ValueError) as error:
        raise ConnectionRefused(400, "the bearer token is not base64") from error
