"""What a channel or an event asks of its user, in Django's words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from django.db.models import Model


class Requirement(NamedTuple):
    """A login, and these permissions (``login_required``, ``permission_required``)."""

    permissions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, login_required: bool, permission_required: str | Iterable[str] | None
    ) -> Requirement | None:
        """None when nothing is asked. Raises TypeError for what is no permission's name."""
        if isinstance(permission_required, str):
            permission_required = (permission_required,)
        permissions = tuple(permission_required or ())
        for name in permissions:
            if not isinstance(name, str) or "." not in name:
                raise TypeError(
                    f"a permission is named 'app_label.codename', not {name!r}"
                )
        return cls(permissions) if login_required or permissions else None

    async def is_met_by(self, user: Any) -> bool:
        """Whether `user` (None: there are no users here) is let through. May ask the database."""
        if user is None or not user.is_authenticated or not user.is_active:
            return False
        return not self.permissions or bool(await user.ahas_perms(self.permissions))


#: the key in the scope under which a Source is kept
SOURCE = "phx_protocol.source"


class Source(NamedTuple):
    """How `user` came to be the one of a connection, and how it is found out who it is now.

    `load` returns the user, anonymous when what named it has ended. `password` is a digest of
    the session auth hash that let it in, `session` one of the session's key; None without one.
    """

    user: Any
    load: Callable[[], Awaitable[Any]]
    password: str | None = None
    session: str | None = None


async def reloaded(user: Any) -> Any:
    """`user` as the database has it now; anonymous when gone or inactive.

    A user that is no model (of a token, say) stays.
    """
    if not isinstance(user, Model) or user.pk is None:
        return user
    from django.contrib.auth.models import AnonymousUser

    # not type(user), which may be a lazy object's
    found = await user.__class__._default_manager.filter(pk=user.pk).afirst()
    is_active = found is not None and getattr(found, "is_active", True)
    return found if is_active else AnonymousUser()
