"""Requirements of a channel or an event for its user, with Django's names; and reloading a user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.db.models import Model


class Requirement(NamedTuple):
    """A required login and required permissions (``login_required``, ``permission_required``)."""

    permissions: tuple[str, ...] = ()
    login: bool = False

    @classmethod
    def of(
        cls, login_required: bool, permission_required: str | Iterable[str] | None
    ) -> Requirement | None:
        """Make a requirement, or None if nothing is required. Raises TypeError for a bad permission name."""
        if isinstance(permission_required, str):
            permission_required = (permission_required,)
        permissions = tuple(permission_required or ())
        for name in permissions:
            if not isinstance(name, str) or "." not in name:
                raise TypeError(
                    f"a permission is named 'app_label.codename', not {name!r}"
                )
        login = bool(login_required)
        return cls(permissions, login) if login or permissions else None

    async def is_met_by(self, user: Any) -> bool:
        """Return True if a Django view with LoginRequiredMixin and PermissionRequiredMixin would let
        `user` through. None (the project has no users) never passes. May query the database.
        """
        if user is None or self.login and not await _is_signed_in(user):
            return False
        return not self.permissions or await _has_perms(user, self.permissions)


async def _is_signed_in(user: Any) -> bool:
    """Return True if `user` is authenticated, and active unless a backend allows inactive users."""
    from ..concurrency.callbacks import look_up

    if not getattr(user, "is_authenticated", False):
        return False
    active = getattr(user, "is_active", True)
    return bool(active or await look_up(_may_sign_in_anyway, user))


def _may_sign_in_anyway(user: Any) -> bool:
    from django.contrib.auth import get_backends

    backends = [b for b in get_backends() if hasattr(b, "user_can_authenticate")]
    return any(b.user_can_authenticate(user) for b in backends)


async def _has_perms(user: Any, permissions: tuple[str, ...]) -> bool:
    """Call ``user.has_perms`` in a thread.

    Not ``ahas_perms``: that ignores a user's own ``has_perm``, and backends without ``ahas_perm``,
    even one that raises PermissionDenied. A user that has neither method has no permissions.
    """
    from ..concurrency.callbacks import look_up

    ask = getattr(user, _which(user), None)
    if not callable(ask):
        return False
    try:
        return bool(await look_up(ask, permissions))
    except PermissionDenied:
        return False


def _which(user: Any) -> str:
    """Return the name of the method to call: the sync one, unless a class overrides only the async one."""
    for each in user.__class__.__mro__:  # not type(user): user may be a lazy object
        if not vars(each).keys().isdisjoint(("has_perms", "has_perm")):
            return "has_perms"
        if not vars(each).keys().isdisjoint(("ahas_perms", "ahas_perm")):
            return "ahas_perms"
    return "has_perms"


#: the key in the scope under which a Source is kept
SOURCE = "phx_protocol.source"
#: the key in the scope that says that the page may use the visitor's cookies
TRUSTED = "phx_protocol.trusted"


class Source(NamedTuple):
    """The origin of the `user` of a connection, and how to load it again.

    `load` returns the user as it is now, or an anonymous one if the session or token that named it
    has ended. `password` is a digest of the session auth hash that was valid when it connected,
    `session` a digest of the session's key; None if there is none.
    """

    user: Any
    load: Callable[[], Awaitable[Any]]
    password: str | None = None
    session: str | None = None


async def reloaded(user: Any) -> Any:
    """Load `user` from the database again; return an AnonymousUser if it is deleted or inactive.

    A user that is not a model (for example one made from a token) is returned unchanged.
    """
    if not isinstance(user, Model) or user.pk is None:
        return user
    from django.contrib.auth.models import AnonymousUser

    from ..concurrency.callbacks import look_up

    # not type(user): user may be a lazy object
    found = user.__class__._default_manager.filter(pk=user.pk)
    user = await look_up(found.first)
    is_active = user is not None and getattr(user, "is_active", True)
    return user if is_active else AnonymousUser()
