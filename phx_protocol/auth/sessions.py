"""Loading the user of a session as Django does for a page, but without ending or changing the session."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from .digests import digest
from .permissions import Source

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


def session_store(session_key: str | None = None) -> SessionBase:
    """Return a session of SESSION_ENGINE with that key, not loaded yet; without a key, an empty one."""
    store: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(
        session_key
    )
    return store


async def session_user(session: SessionBase | None) -> Any:
    """Return the user that `session` names now, read from its store; else an AnonymousUser.

    The result is also anonymous if the session was deleted, has expired or belongs to an older
    password, or if the user may no longer log in. A session from before SECRET_KEY was rotated is
    valid as long as SECRET_KEY_FALLBACKS has the old key. Mirrors
    ``django.contrib.auth.get_user``, but does not renew or end the session: a socket cannot send a
    cookie, so that is left to the next page.
    """
    from ..concurrency.callbacks import look_up

    if session is None or session.session_key is None:
        session = session_store()
    # a new object: the data in `session` may be old. Not type(session): it may be a lazy object
    current = session.__class__(session.session_key)
    return await look_up(_user, current) or _anonymous()


async def read_user(session: SessionBase) -> Any:
    """Return the user as ``session_user`` does, but from the data that `session` already has.

    A session that is not loaded yet is loaded.
    """
    return await database_sync_to_async(_user)(session) or _anonymous()


def _anonymous() -> Any:
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


def session_source(session: SessionBase, user: Any) -> Source:
    """Make the Source of `user`, which can find out later if `session` still names that user.

    `session` must be loaded.
    """
    proof, key = session.get(HASH_SESSION_KEY), session.session_key
    load = functools.partial(session_user, session)
    return Source(user, load, proof and digest(proof), key and digest(key))


def password_digests(user: Any) -> list[str]:
    """Return digests of the session auth hashes with which sessions and tokens of `user` are valid."""
    return [digest(proof) for proof in auth_hashes(user)]


def _user(session: SessionBase) -> Any:
    try:
        key = get_user_model()._meta.pk.to_python(session[SESSION_KEY])
        path = session[BACKEND_SESSION_KEY]
    except (KeyError, ValidationError):
        return None
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    user: Any = load_backend(path).get_user(key)
    if not hasattr(user, "get_session_auth_hash"):
        return user
    proof = session.get(HASH_SESSION_KEY) or ""
    return (
        user
        if any(constant_time_compare(proof, h) for h in auth_hashes(user))
        else None
    )


def auth_hashes(user: Any) -> Iterator[str]:
    """Yield the session auth hashes of `user`, made with SECRET_KEY and with SECRET_KEY_FALLBACKS."""
    yield user.get_session_auth_hash()
    yield from getattr(user, "get_session_auth_fallback_hash", tuple)()
