"""The receivers of Django's signals: logins, logouts and changed passwords."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, transaction
from django.db.models import Model
from django.db.models.signals import class_prepared, post_save

from ..api import (
    adisconnect_user,
    apassword_changed,
    asession_ended,
    disconnect_user,
    password_changed,
    session_ended,
)
from ..auth.digests import digest
from ..auth.sessions import password_digests
from ..conf import options
from ..exceptions import BroadcastError
from ..logs import get_logger

logger = get_logger("phx_protocol.socket")
_tasks: set[asyncio.Task[None]] = set()


def close_sockets_of(
    sender: Any, user: Any, request: Any = None, **kwargs: Any
) -> None:
    """Close the user's sockets in every process, on ``user_logged_out``. Never fail a logout."""
    if user is None or user.pk is None:
        return
    if not _is_on_a_loop():
        _forget_session(request)
    _order_on_commit(user, disconnect_user, adisconnect_user, user)


def close_sockets_of_session(
    sender: Any, user: Any, request: Any = None, **kwargs: Any
) -> None:
    """Close the sockets that another user opened with this session, on ``user_logged_in``."""
    cookies = getattr(request, "COOKIES", {})
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    # without SessionMiddleware there is no session, and the cookie is that of another site
    session = getattr(request, "session", None)
    if not key or session is None or key == getattr(session, "session_key", None):
        return
    ended = digest(key), str(user.pk)
    _order_on_commit(user, session_ended, asession_ended, *ended)


def close_sockets_of_password(
    sender: Any,
    instance: Any,
    created: bool,
    update_fields: frozenset[str] | None = None,
    using: str | None = None,
    raw: bool = False,
    **kwargs: Any,
) -> None:
    """Close the sockets that an older password opened, on ``post_save`` of the user model."""
    if created or raw or not options().close_on_password_change:
        return
    if not _may_change_the_password(instance, update_fields):
        return
    # the key may be set as text, for example: convert it to what the database returns
    key = instance._meta.pk.to_python(instance.pk)
    changed = str(key), password_digests(instance)
    _order_on_commit(
        instance, password_changed, apassword_changed, *changed, using=using
    )


def _may_change_the_password(user: Any, fields: frozenset[str] | None) -> bool:
    """Return whether a save of these `fields` (None: all) may change the hash of `user`'s sessions."""
    if not hasattr(user, "get_session_auth_hash"):
        return False  # there is no password
    if fields is None:
        return True
    # Django's own hash depends on the password alone. A custom one may depend on any field, but
    # not on that which a login saves.
    return "password" in fields if _is_djangos(user) else not fields <= {"last_login"}


def _is_djangos(user: Any) -> bool:
    names = ("get_session_auth_hash", "_get_session_auth_hash")
    own, djangos = type(user), AbstractBaseUser
    return all(getattr(own, n, None) is getattr(djangos, n, None) for n in names)


def watch_passwords() -> None:
    """Receive ``post_save`` of every model that can save a user.

    Django sends the signal with the class that is saved: that can be the user model, a proxy or
    child of it, or a model of which the user model is a proxy or child.
    """

    def prepared(sender: type[Model], **kwargs: Any) -> None:
        if issubclass(sender, get_user_model()):
            watch(sender)

    def watch(model: type[Model]) -> None:
        uid = "phx_protocol"
        post_save.connect(close_sockets_of_password, model, dispatch_uid=uid)

    user = get_user_model()
    for model in apps.get_models():
        if issubclass(model, user) or issubclass(user, model):
            watch(model)
    class_prepared.connect(prepared, weak=False)


def _forget_session(request: Any) -> None:
    # Django deletes the session after this signal, but a client connects again within ten
    # milliseconds: it must not find the session any more
    session = getattr(request, "session", None)
    if session is not None and not settings.SESSION_ENGINE.endswith("signed_cookies"):
        session.delete(session.session_key)


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _order_on_commit(
    user: Any,
    order: Callable[..., None],
    aorder: Callable[..., Coroutine[Any, Any, None]],
    *args: Any,
    using: str | None = None,
) -> None:
    """Send a command about `user` when the transaction is committed, and wait until it is done.

    On an event loop, where nothing may wait, send it at once and in a task.
    """
    using = using or getattr(getattr(user, "_state", None), "db", None)
    if _is_on_a_loop():
        task = asyncio.get_running_loop().create_task(_give(user, aorder(*args)))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    else:
        give = functools.partial(_give_and_wait, user, order, *args)
        try:
            transaction.on_commit(give, using=using, robust=True)
        except (ImproperlyConfigured, Error):
            give()  # without a working database there is no transaction either


def _give_and_wait(user: Any, order: Callable[..., None], *args: Any) -> None:
    try:
        order(*args)
    except (BroadcastError, RuntimeError) as error:
        _say(user, error)


async def _give(user: Any, order: Coroutine[Any, Any, None]) -> None:
    try:
        await order
    except BroadcastError as error:
        _say(user, error)


def _say(user: Any, error: Exception) -> None:
    logger.error("sockets of the user %s may be open still: %s", user.pk, error)
