"""Signed tokens that name the user who connects, for clients without a session (``Phoenix.Token``).

::

    class UserSocket(TokenSocket):
        channels = {"room:*": "chat.channels.RoomChannel"}

    <script>const token = "{% load phx_protocol %}{% phx_token %}"</script>
    new Socket("/socket", {authToken: token})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core import signing
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.signing import BadSignature, SignatureExpired

from .auth.credentials import Credential
from .auth.denials import denials
from .auth.digests import digest
from .auth.permissions import Source
from .auth.sessions import password_digests, session_store
from .concurrency.callbacks import look_up
from .exceptions import ConnectionRefused
from .logs import get_logger
from .socket.connect_info import ConnectInfo
from .socket.socket import Socket

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.sessions.backends.base import SessionBase

logger = get_logger("phx_protocol.socket")

DAY = 86400
SALT = "phx_protocol.token"
USER_SALT = "phx_protocol.user_token"


def sign(data: Any, *, salt: str = SALT) -> str:
    """Return `data` (any JSON value) as a token that all can read but only we can make.

    Its characters are those of ``A-Za-z0-9_.:=-``. Only ``verify`` with the same `salt` accepts
    it. Raises TypeError if JSON cannot carry `data`. Mirrors ``Phoenix.Token.sign/4``.
    """
    return signing.dumps(data, salt=salt)


def verify(token: Any, *, salt: str = SALT, max_age: int | None = DAY) -> Any:
    """Return the data of `token`, which was signed with `salt` at most `max_age` seconds ago.

    `max_age` is a day by default; None accepts any age. Keys in SECRET_KEY_FALLBACKS count too.
    Raises SignatureExpired for a token that is too old, and BadSignature, its base class, for
    any other that is not valid; the text of neither contains the token. Mirrors
    ``Phoenix.Token.verify/4``.
    """
    if not isinstance(token, str):
        raise BadSignature(f"a token is a string, not {type(token).__name__}")
    if not token.isascii():
        raise BadSignature("a token has ASCII characters only")
    try:
        return signing.loads(token, salt=salt, max_age=max_age)
    except SignatureExpired:
        raise
    except BadSignature:
        # Django's own text quotes a part of the token, which would end up in logs
        raise BadSignature(
            "the token was not signed with this key and salt, or was changed"
        ) from None


def signed_at(token: str) -> int:
    """Return when a token that is valid was signed, in seconds of the epoch."""
    return signing.b62_decode(token.rsplit(":", 2)[1])


class SessionEnded(BadSignature):
    """The token was made for a session that has ended, or whose cookie the client did not send."""


def user_token(user: AbstractBaseUser, session: SessionBase | None = None) -> str:
    """Return a token for `user`, which is valid until the user changes the password.

    With `session` it is valid only together with the cookie of that session, and ends with it:
    for pages of the same site, whose token must end at a logout. Raises ValueError for an
    anonymous visitor, or a user that is not saved. ``user_of`` returns the user of a token.
    """
    if user.pk is None:
        raise ValueError(f"no token for {user!r}, who has no primary key")
    key = user._meta.pk.value_to_string(user)
    parts = [key, digest(user.get_session_auth_hash())]
    if session is not None:
        parts.append(digest(session.session_key or ""))
    return sign(parts, salt=USER_SALT)


async def user_of(
    token: Any, max_age: int | None = DAY, session_key: str | None = None
) -> AbstractBaseUser:
    """Return the user whose ``user_token`` this is, made at most `max_age` seconds ago.

    `max_age` is a day by default; None accepts any age. `session_key` comes from the cookie that
    the client sent. Raises SignatureExpired for a token that is too old, SessionEnded for one
    that needs another session, and BadSignature for any other that is not valid, also if the
    user was deleted, is inactive or has changed the password since.
    """
    parts = verify(token, salt=USER_SALT, max_age=max_age)
    load = database_sync_to_async(_load)
    user: AbstractBaseUser = await load(session_key or "", *parts)
    return user


def _load(
    session_key: str, key: str, password: str, session: str | None = None
) -> AbstractBaseUser:
    from django.contrib.auth import get_user_model

    if session is not None and not _names(session, session_key, key):
        raise SessionEnded("the session that the token was made for has ended")
    try:
        user: AbstractBaseUser = get_user_model()._default_manager.get(pk=key)
    except (ObjectDoesNotExist, ValueError, ValidationError):
        raise BadSignature("the token's user does not exist") from None
    if not user.is_active:
        raise BadSignature("the token's user is not active")
    if password not in password_digests(user):
        raise BadSignature("the token's user has changed the password")
    return user


def _names(session: str, session_key: str, key: str) -> bool:
    """Return whether the cookie's session has the digest `session` and belongs to the user `key`."""
    if session != digest(session_key):
        return False
    return bool(session_store(session_key).get(SESSION_KEY) == key)


def _source(token: str, user: AbstractBaseUser, session_key: str | None) -> Source:
    """Return the Source that later checks whether the token still names `user`, at any age."""
    from django.contrib.auth.models import AnonymousUser

    parts = verify(token, salt=USER_SALT, max_age=None)

    async def load() -> Any:
        try:
            return await look_up(_load, session_key or "", *parts)
        except BadSignature:
            return AnonymousUser()

    _, password, *session = parts
    return Source(user, load, password, session[0] if session else None)


class TokenSocket(Socket):
    """A socket whose ``user`` is the one that its token names, whatever the session says.

    The token is phoenix.js's ``authToken``, made by ``user_token`` or ``{% phx_token %}``. It
    is checked once, before ``connect``. To end the sockets of a user earlier than that, call
    ``disconnect_user``. A connection whose token is missing, forged, too old, or not of an
    active user is refused with 403 and a line in the log; one that comes with it a third time is
    told that it need not come again: its WebSocket opens and is closed with 4403.
    """

    #: seconds for which a token is valid; None for ever
    token_max_age: ClassVar[int | None] = DAY
    #: True if a token is required. If False, and the token is missing or its session has ended,
    #: the user is that of the session, or anonymous
    token_required: ClassVar[bool] = True
    #: the connect parameter that has the token if there is no ``authToken`` (phoenix.js before
    #: 1.8); it is removed from ``params``. None for none. Prefer ``authToken``: URLs get into logs.
    token_param: ClassVar[str | None] = None

    async def read_token(self, token: str) -> Credential:
        """Return whom `token` names, and until when. Raises BadSignature if it is not valid.

        Override it for tokens of another kind.
        """
        key = _session_key(self)
        user = await user_of(token, self.token_max_age, key)
        age, began = self.token_max_age, signed_at(token)
        ends = None if age is None else began + age
        return Credential(user, ends, _source(token, user, key), issued_at=began)

    # ------------------------------------------------------- the implementation

    __phx_takes_tokens__ = True

    async def __phx_connect__(self) -> None:
        # not in connect: a subclass that forgets super(), or to await it, would accept everyone
        name = self.token_param
        given = None if name is None else self.params.pop(name, None)
        token = self.auth_token or given
        try:
            if token and not isinstance(token, str):
                raise BadSignature("a token is a string")
            if token:
                rights = self.__phx__.rights
                rights.adopt(token, await rights.read(token))
            else:
                await self.__phx_without_token__()
        except SessionEnded as error:
            if self.token_required:
                raise _refused(self, token, error) from error
        except BadSignature as error:
            raise _refused(self, token, error) from error
        await super().__phx_connect__()

    async def __phx_without_token__(self) -> None:
        """Decide about a client that has no token. Raises BadSignature to refuse it."""
        if self.token_required:
            raise BadSignature("there is no token")


def _session_key(socket: Socket) -> str | None:
    # not socket.connect_info, which would keep the headers as long as the connection
    return ConnectInfo(socket.scope).cookies.get(settings.SESSION_COOKIE_NAME)


def _refused(socket: Socket, token: Any, error: BadSignature) -> ConnectionRefused:
    logger.warning("%s: refused with 403: %s", type(socket).__name__, error)
    address = (socket.scope.get("client") or [None])[0]
    is_of_no_use = bool(token and address) and denials.are_enough(address, token)
    return ConnectionRefused(403, permanent=is_of_no_use)
