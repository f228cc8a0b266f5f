"""Reading users of any kind: any object that a middleware or ``Socket.user`` provides as a user."""

from __future__ import annotations

from typing import Any, Protocol

from ..logs import get_logger

logger = get_logger("phx_protocol.socket")


class HasUser(Protocol):
    @property
    def user(self) -> Any: ...


def key_of(socket: HasUser) -> str | None:
    """Return the primary key of the user as text; None if it is anonymous, has none, or is unreadable."""
    try:
        return primary_key(socket.user)
    except Exception:
        _say_unreadable(socket)
        return None


def primary_key(user: Any) -> str | None:
    """Return the primary key of `user` as text; None if it is anonymous or has none.

    Raises any error that a property of the user raises.
    """
    is_known = getattr(user, "is_authenticated", False)
    key = getattr(user, "pk", None) if is_known else None
    return None if key is None else str(key)


def username_of(socket: HasUser) -> str | None:
    """Return the name of the user; None if it is anonymous, has none, or is unreadable."""
    try:
        user = socket.user
        is_known = getattr(user, "is_authenticated", False)
        get_username = getattr(user, "get_username", None) if is_known else None
        return None if get_username is None else str(get_username())
    except Exception:
        _say_unreadable(socket)
        return None


def _say_unreadable(socket: HasUser) -> None:
    # for example a lazy object that queries the database on the event loop: only this socket fails
    kind = type(socket)
    logger.exception("a user of a socket cannot be read", extra={"cause": kind})
