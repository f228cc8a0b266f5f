"""revoke() and arevoke()."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from channels.db import database_sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature
from django.db import router, transaction

from ..auth.credentials import name_of, signed_part
from ..conf import options
from ..exceptions import BroadcastError
from ..node import blocking
from ..node.node import get_node
from ..socket.routes import load_socket
from ..tokens import USER_SALT, TokenSocket, signed_at, verify

#: the name of the command to all nodes
COMMAND = "revoke"


class Row(NamedTuple):
    """One revocation, as it is written to the database and sent to all nodes."""

    kind: str
    key: str
    revoked_at: float
    expires_at: float | None


def revoke(
    token: str | None = None, *, user: Any = None, expires_at: float | None = None
) -> None:
    """Refuse `token` from now on, or all tokens that `user` has got until now, in every process.

    `token` is a token or its id (the ``jti`` of a JWT), `user` a user or its primary key. Sockets
    whose newest token it is are closed with 4401: when this returns they are, and none of their
    messages is handled any more. In a transaction they are closed after the commit; then an error
    is only logged. A token that does not tell when it was made is taken for one that the user has
    got already, and so is one of the same second.

    The revocation lies in the database, and is deleted an hour after `expires_at` (seconds of the
    epoch). By default that is the ``exp`` of a JWT, or the time at which a ``user_token`` ends by
    the longest ``token_max_age`` of all socket classes that this process has loaded; for an id and
    a user it is never. Raises TypeError without a token or a user, the errors of the database, and
    BroadcastError as ``disconnect`` does: what did not hear of it looks into the database with its
    next beat.
    """
    row = _row(token, user, expires_at)
    using = _write(row)
    if transaction.get_connection(using).in_atomic_block:
        order = functools.partial(_order, row)
        transaction.on_commit(order, using=using, robust=True)
    else:
        _order(row)


async def arevoke(
    token: str | None = None, *, user: Any = None, expires_at: float | None = None
) -> None:
    """Do what ``revoke`` does, on an event loop."""
    row = _row(token, user, expires_at)
    await database_sync_to_async(_write)(row)
    blocking.warn_if_nobody_hears("arevoke")
    await _aorder(row)


def _row(token: str | None, user: Any, expires_at: float | None) -> Row:
    if (token is None) == (user is None):
        raise TypeError("revoke() takes either a token or a user")
    now = time.time()
    if token is None:
        key = getattr(user, "pk", user)
        if key is None:
            raise TypeError(f"{user!r:.100} has no primary key")
        return Row("user", str(key), now, expires_at)
    if not isinstance(token, str) or not token:
        raise TypeError(f"a token is a string, not {token!r:.20}")
    if expires_at is None:
        expires_at = _end_of(token)
    return Row("token", name_of(token), now, expires_at)


def _end_of(token: str) -> float | None:
    """Return when `token` has ended at the latest; None for never, or if it does not tell.

    Nothing is verified: another end would be part of another token.
    """
    signed = signed_part(token)
    if signed is None:
        try:
            return _longest_end(token)
        except BadSignature:
            return None  # an id
    payload = signed.partition(".")[2]
    try:
        end = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(end["exp"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _longest_end(token: str) -> float | None:
    """Return until when the ``user_token`` `token` may be valid; None for ever.

    That depends on the ``token_max_age`` of the socket classes that this process has loaded, and of
    those in the setting SOCKETS. Raises BadSignature if it is no ``user_token``.
    """
    verify(token, salt=USER_SALT, max_age=None)
    for target in options().sockets.values():
        load_socket(target)
    ages = [each.token_max_age for each in _classes(TokenSocket)]
    return None if None in ages else signed_at(token) + max(filter(None, ages))


def _classes(base: type[TokenSocket]) -> Iterator[type[TokenSocket]]:
    yield base
    for each in base.__subclasses__():
        yield from _classes(each)


def _write(row: Row) -> str:
    """Write `row`; return the name of the database."""
    if not apps.is_installed("phx_protocol.revocations"):
        raise ImproperlyConfigured("INSTALLED_APPS needs 'phx_protocol.revocations'")
    from .models import Revocation

    using = router.db_for_write(Revocation)
    rows = Revocation._default_manager.using(using)
    times = {"revoked_at": row.revoked_at, "expires_at": row.expires_at}
    found, is_new = rows.get_or_create(kind=row.kind, key=row.key, defaults=times)
    if not is_new:
        # neither goes back, whatever another process writes at the same time
        same = rows.filter(pk=found.pk)
        same.filter(revoked_at__lt=row.revoked_at).update(revoked_at=row.revoked_at)
        if row.expires_at is None:
            same.update(expires_at=None)
        else:
            same.filter(expires_at__lt=row.expires_at).update(expires_at=row.expires_at)
    return using


async def _aorder(row: Row) -> None:
    body = {"kind": row.kind, "key": row.key, "revoked_at": row.revoked_at}
    await get_node().commands.send(COMMAND, body)


def _order(row: Row) -> None:
    try:
        blocking.run(_aorder(row), "revoke", "await arevoke(...)")
    except TimeoutError as error:
        raise BroadcastError(f"not every process has answered: {error}") from error
