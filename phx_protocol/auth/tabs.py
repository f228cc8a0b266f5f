"""Tab: the connection of the page that makes a request, so that its channels can be left out."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from django.core.exceptions import SynchronousOnlyOperation

from .digests import digest
from .users import primary_key

#: the header with the id of the connection, and the field of a form that has it instead
HEADER, FIELD = "X-Phx-Connection", "_phx_connection"

_ID = re.compile(r"[0-9a-f]{16}\.\d{1,18}")


class Tab(NamedTuple):
    """The `connection` that a request names, and digests of the request's user and session.

    An id can be guessed: it counts only if that connection has the same user or session.
    """

    connection: str
    user: str
    session: str

    @classmethod
    def of(cls, request: Any) -> Tab | None:
        """Return the tab of a request of Django or of Django REST framework; None if it names none."""
        id = request.headers.get(HEADER) or _field(request)
        if not isinstance(id, str) or not _ID.fullmatch(id):
            return None
        user, key = _user(request), getattr(request, "session", None)
        session = getattr(key, "session_key", None)
        if user is None and session is None:
            return None
        return cls(id, digest(user) if user else "", digest(session) if session else "")

    @classmethod
    def parse(cls, sender: str) -> Tab | None:
        """Return the tab whose ``sender`` this is; None if it is the id of a channel."""
        connection, at, proofs = sender.partition("@")
        return cls(connection, *proofs.split(".", 1)) if at and "." in proofs else None

    @property
    def sender(self) -> str:
        """The text that a broadcast has as its sender; without a tab it is the id of a channel."""
        return f"{self.connection}@{self.user}.{self.session}"

    def is_of(self, user: str | None, session: str | None) -> bool:
        """Return whether it belongs to the user with the key `user`, or has the session of that digest."""
        if user is not None and self.user == digest(user):
            return True
        return bool(session) and self.session == session


def _field(request: Any) -> Any:
    """Return what the form says, if it has been read: to read it here would take the body from the view."""
    form = vars(getattr(request, "_request", request)).get("_post")
    return None if form is None else form.get(FIELD)


def _user(request: Any) -> str | None:
    try:
        return primary_key(getattr(request, "user", None))
    except SynchronousOnlyOperation:
        return None  # an async view has not read it; the session says enough
