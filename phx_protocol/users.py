"""Users as others hand them to us: whatever a middleware, or ``Socket.user``, takes for one."""

from __future__ import annotations

from typing import Any, Protocol

from .logs import get_logger

logger = get_logger("phx_protocol.socket")


class HasUser(Protocol):
    @property
    def user(self) -> Any: ...


def key_of(socket: HasUser) -> str | None:
    """The primary key of the user as text; None for one that is anonymous or has none."""
    try:
        key = getattr(_known(socket), "pk", None)
        return None if key is None else str(key)
    except Exception:
        _say_unreadable(socket)
        return None


def username_of(socket: HasUser) -> str | None:
    """What the user is called; None for one that is anonymous or has no name."""
    try:
        get_username = getattr(_known(socket), "get_username", None)
        return None if get_username is None else str(get_username())
    except Exception:
        _say_unreadable(socket)
        return None


def _known(socket: HasUser) -> Any:
    user = socket.user
    return user if getattr(user, "is_authenticated", False) else None


def _say_unreadable(socket: HasUser) -> None:
    # a lazy object that asks the database on the event loop, say: that concerns this socket alone
    kind = type(socket)
    logger.exception("a user of a socket cannot be read", extra={"cause": kind})
