"""What can go wrong, drawn as a tree.

::

    PhxError
    ├── DecodeError           a peer sent what is no frame of the protocol: its fault
    ├── InvalidPayload        a client sent what is not as its handler declares: its fault
    ├── EncodeError           the application handed out what the wire cannot carry
    ├── BroadcastError        the channel layer did not take a broadcast
    ├── StateError            what processes share (Redis) could not be reached
    │   ├── StateRefused      or refused something
    │   └── StateTimeout      or did not answer in time
    ├── InvalidTopicPattern   a pattern in CHANNELS that could never be matched
    ├── AlreadyTracked        a presence that is tracked already
    ├── NotTracked            an update of a presence that is not tracked
    └── JoinDenied            raised by ``join`` to refuse it for good
    channels.exceptions.DenyConnection
    └── ConnectionRefused     raised by ``connect`` to refuse the connection
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channels.exceptions import DenyConnection


class PhxError(Exception):
    """The base of every error that this package raises on its own."""


class DecodeError(PhxError, ValueError):
    """A frame that cannot be decoded. The transport closes with 1011, as Phoenix does."""


class InvalidPayload(PhxError, ValueError):
    """A client's payload that is not of the type that its handler declares.

    `errors` says where and why: ``[{"path": "$.body", "message": "Expected `str`, got `int`"}]``, at
    most 20. `more` is how many more there are at the most.
    """

    def __init__(self, errors: list[dict[str, str]], more: int = 0) -> None:
        super().__init__(errors, more)
        self.errors = errors
        self.more = more

    @property
    def details(self) -> dict[str, Any]:
        """The details beside the reason: ``errors``, and ``more_errors`` if there are more."""
        more = {"more_errors": self.more} if self.more else {}
        return {"errors": self.errors, **more}


class EncodeError(PhxError, ValueError):
    """A payload, topic or event that the client's serializer cannot carry, or a broadcast that is
    larger than MAX_BROADCAST_SIZE."""


class BroadcastError(PhxError):
    """The channel layer refused a broadcast or could not be reached."""


class StateError(PhxError):
    """The state that processes share refused a step or could not be reached."""


class StateRefused(StateError):
    """The state could be reached, and refused a step: a matter of that step alone."""


class StateTimeout(StateError):
    """The state did not answer in time, which a large answer may be the reason of."""


class AlreadyTracked(PhxError):
    """``Presence.track`` of what is tracked: the same channel, topic and key."""


class NotTracked(PhxError):
    """``Presence.update`` of what is not tracked."""


class InvalidTopicPattern(PhxError, ValueError):
    """A topic pattern that is not a string, is empty, or has a ``*`` before its end."""


class JoinDenied(PhxError):
    """Raise it in ``Channel.join`` to deny the join with `reply` (any JSON value, default ``{}``).

    With ``permanent=True`` the error reply is followed by ``phx_close``, on which
    phoenix.js drops the channel instead of trying again for ever.
    """

    def __init__(self, reply: Any = None, *, permanent: bool = False) -> None:
        super().__init__(reply, permanent)
        self.reply = {} if reply is None else reply
        self.permanent = permanent


class ConnectionRefused(DenyConnection):
    """Raise it in ``Socket.connect`` to refuse the connection with an HTTP answer.

    `status` is the HTTP status (default 403), `reason` the body as text (default empty,
    as Phoenix answers), `headers` are further ones (``{"retry-after": "60"}``). A server without
    the ASGI extension ``websocket.http.response`` (Daphne) answers 403 whatever the status;
    over long-poll the JSON says 403 (500 for a 5xx) and the reason, but for a redirect (a 3xx with
    the header ``location``), which is one there as well. Mirrors ``:error`` and ``{:error, term}`` of
    ``c:Phoenix.Socket.connect/3``.
    """

    def __init__(
        self,
        status: int = 403,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})
