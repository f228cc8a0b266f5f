"""The user of a session, found as Django finds it for a page, without ending or changing the session."""

from __future__ import annotations

import functools
import hashlib
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

from .permissions import Source

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


def session_store(session_key: str | None = None) -> SessionBase:
    """The session of SESSION_ENGINE with that key, not loaded yet; without a key, an empty one."""
    store: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(
        session_key
    )
    return store


async def session_user(session: SessionBase | None) -> Any:
    """The user whom `session` names by now, as its store has it; else an AnonymousUser.

    Anonymous is also whoever's session was deleted, has expired or belongs to another password,
    and a user who may no longer log in. A session from before SECRET_KEY was rotated counts as
    long as SECRET_KEY_FALLBACKS does. Mirrors ``django.contrib.auth.get_user``, but a socket can
    send no cookie: it leaves it to the next page to renew the session, or to end it.
    """
    from ..concurrency.callbacks import look_up

    if session is None or session.session_key is None:
        session = session_store()
    # what the object holds was read at some time before. Not type(session): it may be lazy
    current = session.__class__(session.session_key)
    return await look_up(_user, current) or _anonymous()


async def read_user(session: SessionBase) -> Any:
    """As ``session_user``, but of what `session` holds; one that was not read yet is read."""
    return await database_sync_to_async(_user)(session) or _anonymous()


def _anonymous() -> Any:
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


def session_source(session: SessionBase, user: Any) -> Source:
    """How it is found out later whether `session`, which was read, still names `user`."""
    proof, key = session.get(HASH_SESSION_KEY), session.session_key
    load = functools.partial(session_user, session)
    return Source(user, load, proof and digest(proof), key and digest(key))


def digest(secret: str) -> str:
    """A digest of a session's key, or of a session auth hash, which may be told to others."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def password_digests(user: Any) -> list[str]:
    """Digests of the session auth hashes that let sessions and tokens of `user` in."""
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
    """The session auth hashes of `user`: under SECRET_KEY, and under SECRET_KEY_FALLBACKS."""
    yield user.get_session_auth_hash()
    yield from getattr(user, "get_session_auth_fallback_hash", tuple)()
