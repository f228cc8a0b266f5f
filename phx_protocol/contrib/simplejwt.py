"""Tokens of djangorestframework-simplejwt: sockets whose user is the one that an access token names.

::

    class UserSocket(SimpleJWTSocket):
        channels = {"room:*": "chat.channels.RoomChannel"}

Its settings (``SIMPLE_JWT``) count here as they do for views.
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature
from django.utils.module_loading import import_string

from ..auth.credentials import Credential
from ..auth.permissions import Source
from ..concurrency.callbacks import look_up
from ..tokens import TokenSocket

try:
    from rest_framework.exceptions import AuthenticationFailed
    from rest_framework_simplejwt.exceptions import TokenError
    from rest_framework_simplejwt.settings import api_settings
except ImportError as error:
    raise ImproperlyConfigured(
        "phx_protocol.contrib.simplejwt needs djangorestframework-simplejwt: "
        "pip install 'phx_protocol[simplejwt]'"
    ) from error


class SimpleJWTSocket(TokenSocket):
    """A TokenSocket whose tokens are access tokens of simplejwt. Its ``token_max_age`` plays no part."""

    #: the class that reads tokens, or its dotted path; ``JWTStatelessUserAuthentication`` asks no database
    authentication_class: ClassVar[Any] = (
        "rest_framework_simplejwt.authentication.JWTAuthentication"
    )

    async def read_token(self, token: str) -> Credential:
        reader = self.authentication_class
        if isinstance(reader, str):
            reader = import_string(reader)
        credential: Credential = await look_up(_read, reader(), token)
        return credential


def _read(reader: Any, token: str) -> Credential:
    try:
        valid = reader.get_validated_token(token.encode())
        user = reader.get_user(valid)
    except (AuthenticationFailed, TokenError) as error:
        raise BadSignature(f"not a valid token of simplejwt: {_said(error)}") from None
    except (RecursionError, UnicodeError):
        raise BadSignature("not a valid token: lists in lists, or no text") from None
    claims, leeway = valid.payload, api_settings.LEEWAY
    if isinstance(leeway, timedelta):
        leeway = leeway.total_seconds()
    begin = claims.get("iat")
    return Credential(
        user,
        claims["exp"] + leeway,
        Source(user, functools.partial(_load_again, reader, valid)),
        claims.get(api_settings.JTI_CLAIM),
        None if begin is None else begin - leeway,
    )


async def _load_again(reader: Any, valid: Any) -> Any:
    """Return the user as it is now; an AnonymousUser if it is deleted, inactive or has another password."""
    from django.contrib.auth.models import AnonymousUser

    try:
        return await look_up(reader.get_user, valid)
    except AuthenticationFailed:
        return AnonymousUser()


def _said(error: Exception) -> Any:
    detail = getattr(error, "detail", error)
    return detail.get("detail", detail) if isinstance(detail, dict) else detail
