"""Django REST framework's authentication classes, for sockets.

::

    class UserSocket(DRFSocket):
        channels = {"room:*": "chat.channels.RoomChannel"}

``DEFAULT_AUTHENTICATION_CLASSES`` decide who connects, as they do for views.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature
from django.utils.module_loading import import_string

from ..auth.credentials import Credential
from ..auth.permissions import TRUSTED, Source
from ..concurrency.callbacks import call_async
from ..socket.connect_info import ConnectInfo
from ..tokens import TokenSocket
from ..transports.request import HandshakeRequest

try:
    from rest_framework.exceptions import APIException
    from rest_framework.request import Request
    from rest_framework.settings import api_settings
except ImportError as error:
    raise ImproperlyConfigured(
        "phx_protocol.contrib.drf needs djangorestframework: "
        "pip install 'phx_protocol[drf]'"
    ) from error


#: what may stand behind the keyword in a header, by RFC 6750
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class DRFSocket(TokenSocket):
    """A socket whose user the authentication classes of Django REST framework find.

    A client with an ``authToken`` is asked about by each class that reads an Authorization header:
    the request has one, made of the class's keyword and the token, and no cookies. A client without
    one is asked about by all classes: the request has the cookies, the session and the user if the
    page may use them (as for every socket), and never an Authorization header of its own: a browser
    adds that for any page. If no class knows the client, it is refused; with ``token_required =
    False`` it is anonymous.
    """

    #: the classes, or their dotted paths; None: DEFAULT_AUTHENTICATION_CLASSES
    authentication_classes: ClassVar[Sequence[Any] | None] = None

    async def read_token(self, token: str) -> Credential:
        if not TOKEN.fullmatch(token):
            # a header would be split there, and the token read under another name than it is revoked by
            raise BadSignature("a token has no spaces, and characters of RFC 6750 only")
        found = await self._ask(_ask_with_token, token)
        if found is None:
            raise BadSignature("no authentication class knows the token")
        load = functools.partial(self._load_again, token)
        user, auth = found
        return self.credential(user, auth)._replace(source=Source(user, load))

    def credential(self, user: Any, auth: Any) -> Credential:
        """Return what ``request.user`` and ``request.auth`` say of the client.

        Override it for an `auth` that ends in a way of its own: this knows the tokens of simplejwt
        (their ``exp``, ``jti`` and ``iat``), and an ``expiry`` and ``created`` as those of knox and of
        Django REST framework have them.
        """
        claims = getattr(auth, "payload", None)
        if isinstance(claims, dict):
            names = "exp", "jti", "iat"
            end, id, begin = (claims.get(name) for name in names)
            return Credential(user, end, id=id, issued_at=begin)
        end, begin = (_time(getattr(auth, n, None)) for n in ("expiry", "created"))
        return Credential(user, end, issued_at=begin)

    # ------------------------------------------------------- the implementation

    async def __phx_without_token__(self) -> None:
        found = await self._ask(_ask_without_token)
        if found is None:
            if self.token_required:
                raise BadSignature("no authentication class knows the client")
            return
        credential, token = self.credential(*found), _text_of(found[1])
        if token is None:
            self.scope["user"] = credential.user
            self.expires_at = credential.expires_at
        else:  # in a cookie
            await self.__phx__.rights.take(token, credential)

    async def _ask(self, ask: Callable[..., Any], *args: Any) -> Any:
        # in the threads of callbacks: a class may take its time, such as one that hashes a password
        return await call_async(ask, self._readers(), self.scope, *args)

    def _readers(self) -> list[Any]:
        classes = self.authentication_classes
        if classes is None:
            classes = api_settings.DEFAULT_AUTHENTICATION_CLASSES
        return [(import_string(c) if isinstance(c, str) else c)() for c in classes]

    async def _load_again(self, token: str) -> Any:
        """Return the user whom the token names now."""
        from django.contrib.auth.models import AnonymousUser

        try:
            return (await self.read_token(token)).user
        except BadSignature:
            return AnonymousUser()


def _text_of(auth: Any) -> str | None:
    """Return the token that `auth` stands for: one of simplejwt, or of Django REST framework."""
    token = getattr(auth, "token", None) or getattr(auth, "key", None)
    if isinstance(token, bytes):
        return token.decode(errors="replace")
    return token if isinstance(token, str) else None


def _time(value: Any) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else None


def _ask_with_token(
    readers: list[Any], scope: dict[str, Any], token: str
) -> tuple[Any, Any] | None:
    """Return the user and the auth of the first class that knows `token`."""
    failure = None  # its text: the error leads to this frame
    for reader in readers:
        request = _request(scope, with_cookies=False)
        keyword = _keyword(reader, request)
        if keyword is None:
            continue
        request.META["HTTP_AUTHORIZATION"] = f"{keyword} {token}"
        try:
            if found := _ask(reader, request):
                return found
        except APIException as error:
            failure = error.detail  # another class may have another keyword
    if failure is not None:
        raise BadSignature(f"no authentication class knows the token: {failure}")
    return None


def _ask_without_token(
    readers: list[Any], scope: dict[str, Any]
) -> tuple[Any, Any] | None:
    """Return the user and the auth of the first class that knows the client."""
    try:
        for reader in readers:
            request = _request(scope, with_cookies=TRUSTED in scope)
            if found := _ask(reader, request):
                return found
    except APIException as error:
        raise BadSignature(f"the client is refused: {error.detail}") from None
    return None


def _ask(reader: Any, request: Any) -> tuple[Any, Any] | None:
    asked = Request(request, authenticators=(reader,))
    found = asked.user, asked.auth
    return found if asked.successful_authenticator is not None else None


def _request(scope: dict[str, Any], with_cookies: bool) -> Any:
    """Return a request as Django has it, without an Authorization header."""
    request: Any = HandshakeRequest(ConnectInfo(scope))
    request.META.pop("HTTP_AUTHORIZATION", None)
    if with_cookies:
        request.session, request.user = scope.get("session"), scope.get("user")
    else:
        request.META["HTTP_COOKIE"] = ""
    return request


def _keyword(reader: Any, request: Any) -> str | None:
    """Return the word before a token in the Authorization header that `reader` reads."""
    keyword = getattr(reader, "keyword", None)
    if isinstance(keyword, str):
        return keyword
    header = reader.authenticate_header(request)
    return header.partition(" ")[0] if isinstance(header, str) and header else None
