"""Users as others hand them to us: whatever a middleware, or ``Socket.user``, takes for one."""

from __future__ import annotations

from typing import Any, Protocol

from ..logs import get_logger

logger = get_logger("phx_protocol.socket")


class HasUser(Protocol):
    @property
    def user(self) -> Any: ...


def key_of(socket: HasUser) -> str | None:
    """The primary key of the user as text; None for one that is anonymous or has none."""
    try:
        return primary_key(socket.user)
    except Exception:
        _say_unreadable(socket)
        return None


def primary_key(user: Any) -> str | None:
    """The primary key of `user` as text; None for one that is anonymous or has none.

    Raises what a property of the user raises.
    """
    is_known = getattr(user, "is_authenticated", False)
    key = getattr(user, "pk", None) if is_known else None
    return None if key is None else str(key)


def username_of(socket: HasUser) -> str | None:
    """The name of the user; None for one that is anonymous or has none."""
    try:
        user = socket.user
        is_known = getattr(user, "is_authenticated", False)
        get_username = getattr(user, "get_username", None) if is_known else None
        return None if get_username is None else str(get_username())
    except Exception:
        _say_unreadable(socket)
        return None


def _say_unreadable(socket: HasUser) -> None:
    # a lazy object that asks the database on the event loop, say: that concerns this socket alone
    kind = type(socket)
    logger.exception("a user of a socket cannot be read", extra={"cause": kind})
