"""JSON Web Tokens: sockets whose user is the one that a JWT names.

It needs PyJWT: ``pip install 'phx_protocol[jwt]'``::

    class UserSocket(JWTSocket):
        jwt = JWT(jwks_url="https://id.example.com/jwks.json", algorithms=["RS256"], audience="chat")
        channels = {"room:*": "chat.channels.RoomChannel"}
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from django.core.exceptions import (
    ImproperlyConfigured,
    ObjectDoesNotExist,
    ValidationError,
)
from django.core.signing import BadSignature

from ..auth.credentials import Credential
from ..concurrency.callbacks import look_up
from ..concurrency.tasks import begin
from ..exceptions import ConnectionRefused
from ..logs import get_logger
from ..logs.printable import describe
from ..tokens import TokenSocket
from ..wire.reasons import Refusal

try:
    import jwt as pyjwt
except ImportError as error:
    raise ImproperlyConfigured(
        "phx_protocol.contrib.jwt needs PyJWT: pip install 'phx_protocol[jwt]'"
    ) from error

logger = get_logger("phx_protocol.socket")

Claims = dict[str, Any]

#: what a token raises: PyJWT's own errors; numbers that are none, or beyond all bounds; lists in lists
_WRONG = (pyjwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class JWT:
    """How the JWTs of a site are verified.

    Either `key` or `jwks_url`: `key` is a secret or a public key in PEM, or a list of them, of which
    any may fit (for a change of keys); `jwks_url` is where the issuer publishes its keys. They are
    read when the first token comes, and again every `lifespan` seconds, and, at most every ten
    seconds, for a token with a key that is not known yet. While the URL is away the last keys count.

    `algorithms` are the only ones that count (``["HS256"]``, ``["RS256", "ES256"]``). `audience` and
    `issuer` are a name or a list of names; a token with an audience is refused if none is expected.
    `leeway` is in seconds, for other clocks, and counts after the end of a token too. Of `required`
    claims none may be missing. `user_claim` names the claim with the user, and `user_field` the
    field of the user model that it is compared with.

    Raises ImproperlyConfigured for what is unsafe, or cannot work.
    """

    def __init__(
        self,
        *,
        key: str | bytes | Sequence[str | bytes] | None = None,
        jwks_url: str | None = None,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0,
        required: Sequence[str] = ("exp",),
        user_claim: str = "sub",
        user_field: str = "pk",
        lifespan: float = 300,
    ) -> None:
        if isinstance(algorithms, str):
            raise ImproperlyConfigured("algorithms are a list: ['HS256']")
        if (key is None) == (jwks_url is None):
            raise ImproperlyConfigured("a JWT needs either a key or a jwks_url")
        unknown = set(algorithms) - pyjwt.algorithms.get_default_algorithms().keys()
        if not algorithms or unknown or "none" in algorithms:
            raise ImproperlyConfigured(
                f"algorithms names none, or an unknown one: {[*algorithms]!r}"
            )
        if jwks_url and any(name.startswith("HS") for name in algorithms):
            raise ImproperlyConfigured("keys of a jwks_url are public: no HS algorithm")
        self._keys = [key] if isinstance(key, (str, bytes)) else list(key or ())
        if not all(self._keys):
            raise ImproperlyConfigured("the key is empty")
        self._published = None if jwks_url is None else KeySet(jwks_url, lifespan)
        self.leeway, self.user_claim, self.user_field = leeway, user_claim, user_field
        self._options: dict[str, Any] = {
            "algorithms": list(algorithms),
            "audience": audience,
            "issuer": issuer,
            "leeway": leeway,
            "options": {"require": list(required)},
        }

    async def verify(self, token: str) -> Claims:
        """Return the claims of `token`. Raises BadSignature if it is not valid.

        Raises ConnectionRefused if keys are needed that cannot be read now.
        """
        try:
            if self._published is not None:
                header = pyjwt.get_unverified_header(token)
                return self._decode(token, await self._published.key(header.get("kid")))
            *older, last = self._keys
            for key in older:
                try:
                    return self._decode(token, key)
                except (pyjwt.InvalidSignatureError, pyjwt.InvalidKeyError):
                    pass
                except (ValueError, TypeError):
                    pass  # the key is of another kind than the token
            return self._decode(token, last)
        except _WRONG as error:
            raise BadSignature(f"not a valid JWT: {describe(error)}") from None

    def _decode(self, token: str, key: Any) -> Claims:
        return dict(pyjwt.decode(token, key, **self._options))

    def _end_of(self, claims: Claims) -> float | None:
        """Return when a token with these claims ends, in seconds of the epoch; None for never."""
        end = claims.get("exp")
        return None if end is None else float(end) + self.leeway


class KeySet:
    """The keys that an issuer publishes at `url` (JWKS)."""

    #: seconds between two readings, whatever tokens come
    PAUSE = 10.0
    #: seconds after which the site that publishes the keys is away
    TIMEOUT = 5

    def __init__(self, url: str, lifespan: float) -> None:
        self._url = url
        self._lifespan = lifespan
        self._keys: dict[str | None, Any] = {}
        self._read_at = self._tried_at = -math.inf
        self._reading: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> Any:
        """Return the key with the id `kid`; without an id the only one. Raises BadSignature."""
        now = time.monotonic()
        is_known, is_old = kid in self._keys, now - self._read_at > self._lifespan
        if now - self._tried_at > self.PAUSE and (is_old or not is_known):
            reading = self._read_once()
            if not is_known:
                await asyncio.shield(reading)
        if not self._keys:
            raise ConnectionRefused(503, Refusal.UNAVAILABLE)
        if kid not in self._keys:
            raise BadSignature(f"no key of the issuer is {kid!r:.100}")
        return self._keys[kid]

    def _read_once(self) -> asyncio.Task[None]:
        """Read the keys; one reading serves all."""
        reading, loop = self._reading, asyncio.get_running_loop()
        if reading is None or reading.done() or reading.get_loop() is not loop:
            reading = self._reading = begin(self._read())
        return reading

    async def _read(self) -> None:
        try:
            keys = await asyncio.to_thread(self._fetch)
        except Exception as error:
            logger.error(
                "the keys of JWTs cannot be read from %s: %s",
                self._url,
                describe(error),
            )
        else:
            only = keys[0] if len(keys) == 1 else None
            self._keys = {key.key_id: key for key in keys}
            if only is not None:
                self._keys[None] = only
            self._read_at = time.monotonic()
        finally:
            self._tried_at = time.monotonic()

    def _fetch(self) -> list[Any]:
        # PyJWT's own cache would read the URL for every unknown key that a client makes up
        client = pyjwt.PyJWKClient(self._url, cache_jwk_set=False, timeout=self.TIMEOUT)
        keys = client.get_jwk_set().keys
        return [key for key in keys if key.public_key_use in (None, "sig")]


class JWTSocket(TokenSocket):
    """A TokenSocket whose tokens are JWTs, as ``jwt`` says. Its ``token_max_age`` plays no part."""

    #: how tokens are verified
    jwt: ClassVar[JWT]

    async def read_token(self, token: str) -> Credential:
        claims = await self.jwt.verify(token)
        user = await self.jwt_user(claims)
        return Credential(
            user,
            self.jwt._end_of(claims),
            id=claims.get("jti"),
            # it may have been made so much earlier, by our clock
            issued_at=(
                float(claims["iat"]) - self.jwt.leeway if "iat" in claims else None
            ),
        )

    async def jwt_user(self, claims: Claims) -> Any:
        """Return the user whom `claims` name. Raises BadSignature if there is none.

        Override it for users who are not in the database.
        """
        name = claims.get(self.jwt.user_claim)
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise BadSignature(f"the claim {self.jwt.user_claim!r} names no user")
        user = await look_up(_load, self.jwt.user_field, name)
        if not getattr(user, "is_active", True):
            raise BadSignature("the token's user is not active")
        return user


def _load(field: str, name: str | int) -> Any:
    from django.contrib.auth import get_user_model

    try:
        return get_user_model()._default_manager.get(**{field: name})
    except (ObjectDoesNotExist, ValidationError, ValueError, OverflowError):
        raise BadSignature("the token's user does not exist") from None
