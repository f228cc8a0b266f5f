"""The errors of this package, as a tree.

::

    PhxError
    ├── DecodeError           a peer sent something that is not a frame of the protocol
    ├── InvalidPayload        a client sent a payload that is not of the type its handler declares
    ├── EncodeError           the application sends a value that the wire cannot carry
    ├── BroadcastError        the channel layer did not accept a broadcast
    ├── StateError            the state that processes share (Redis) could not be reached
    │   ├── StateRefused      ... or it refused a step
    │   └── StateTimeout      ... or it did not answer in time
    ├── InvalidTopicPattern   a pattern in CHANNELS that no topic can match
    ├── AlreadyTracked        a presence that is already tracked
    ├── NotTracked            an update of a presence that is not tracked
    └── JoinDenied            raised by ``join`` to deny the join
    channels.exceptions.DenyConnection
    └── ConnectionRefused     raised by ``connect`` to refuse the connection
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channels.exceptions import DenyConnection


class PhxError(Exception):
    """The base of every error that this package defines, except ConnectionRefused."""


class DecodeError(PhxError, ValueError):
    """A frame that cannot be decoded. The transport closes with 1011, as Phoenix does."""


class InvalidPayload(PhxError, ValueError):
    """A client's payload that is not of the type that its handler declares.

    `errors` lists where and why: ``[{"path": "$.body", "message": "Expected `str`, got `int`"}]``, at
    most 20 of them. `more` is the number of further errors, at most.
    """

    def __init__(self, errors: list[dict[str, str]], more: int = 0) -> None:
        super().__init__(errors, more)
        self.errors = errors
        self.more = more

    @property
    def details(self) -> dict[str, Any]:
        """The details next to the reason: ``errors``, and ``more_errors`` if there are more."""
        more = {"more_errors": self.more} if self.more else {}
        return {"errors": self.errors, **more}


class EncodeError(PhxError, ValueError):
    """A payload, topic or event that the client's serializer cannot encode, or a broadcast that is
    larger than MAX_BROADCAST_SIZE."""


class BroadcastError(PhxError):
    """The channel layer refused a broadcast or could not be reached."""


class StateError(PhxError):
    """The state that processes share could not be reached, or refused a step."""


class StateRefused(StateError):
    """The state was reached, but refused a step. Other steps may still work."""


class StateMoved(StateError):
    """The topic or user is on another server of the state since a moment ago. Nothing was done."""


class StateTimeout(StateError):
    """The state did not answer in time, perhaps because the answer is large."""


class AlreadyTracked(PhxError):
    """``Presence.track`` was called twice for the same channel, topic and key."""


class NotTracked(PhxError):
    """``Presence.update`` was called for a presence that is not tracked."""


class InvalidTopicPattern(PhxError, ValueError):
    """A topic pattern that is not a string, is empty, or has a ``*`` before its end."""


class JoinDenied(PhxError):
    """Raise it in ``Channel.join`` to deny the join with `reply` (any JSON value, default ``{}``).

    With ``permanent=True`` the server sends ``phx_close`` after the error reply. phoenix.js then
    drops the channel instead of trying to join again for ever.
    """

    def __init__(self, reply: Any = None, *, permanent: bool = False) -> None:
        super().__init__(reply, permanent)
        self.reply = {} if reply is None else reply
        self.permanent = permanent


class ConnectionRefused(DenyConnection):
    """Raise it in ``Socket.connect`` to refuse the connection with an HTTP answer.

    `status` is the HTTP status (default 403), `reason` the body as text (default empty,
    as Phoenix answers), `headers` are additional headers (``{"retry-after": "60"}``). A server
    without the ASGI extension ``websocket.http.response`` (Daphne) always answers 403. Over
    long-poll the JSON contains 403 (500 for a 5xx and for 429, which pass) and the reason; only a redirect (a 3xx with the
    header ``location``) is a redirect there as well. Browsers hide a refused handshake from scripts:
    with `permanent`, a WebSocket opens and is closed at once with 4403, so that a client can know that
    it is of no use to come again. Mirrors ``:error`` and ``{:error, term}`` of
    ``c:Phoenix.Socket.connect/3``.
    """

    def __init__(
        self,
        status: int = 403,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        permanent: bool = False,
    ) -> None:
        super().__init__(status, reason)
        self.permanent = permanent
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})
