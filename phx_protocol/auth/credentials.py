"""Credential: what a token says of the client that sent it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .digests import digest
from .permissions import Source
from .users import primary_key


class Credential(NamedTuple):
    """The `user` whom a token names, until when it is valid, and how to load the user again.

    `expires_at` and `issued_at` are in seconds of the epoch; None if the token does not end, or does
    not say when it was made. Without a `source` a user who is a model is loaded by the primary key.
    `id` is the token's own name, such as the ``jti`` of a JWT, if it has one.
    """

    user: Any
    expires_at: float | None = None
    source: Source | None = None
    id: str | None = None
    issued_at: float | None = None

    def outlives(self, expires_at: float | None) -> bool:
        """Return whether it ends at `expires_at` or later."""
        if self.expires_at is None:
            return True
        return expires_at is not None and self.expires_at >= expires_at


class Claim(NamedTuple):
    """The names by which a connection's token can be revoked later.

    `names` are digests of the token and its id, `user` is the primary key as text.
    """

    names: tuple[str, ...]
    user: str | None
    issued_at: float | None

    @classmethod
    def of(cls, token: str, credential: Credential) -> Claim:
        names: tuple[str, ...] = (name_of(token),)
        if credential.id is not None:
            names += (digest(credential.id),)
        return cls(names, primary_key(credential.user), credential.issued_at)


#: a JWT: its header is the base64 of a JSON object; what follows the last dot is the signature, in which
#: some readers of base64 skip anything
_JWT = re.compile(r"(e[yw][^.]*\.[^.]*)\.[^.]*", re.DOTALL)


def signed_part(token: str) -> str | None:
    """Return the header and the payload of a JWT; None if `token` is none."""
    jwt = _JWT.fullmatch(token)
    return jwt and jwt[1]


def name_of(token: str) -> str:
    """Return the digest by which `token` can be revoked.

    Of a JWT it is that of the part that is signed: one signature can be written in several ways.
    """
    return digest(signed_part(token) or token)
