"""Every reason of a refusal, every close code, and every reason for the end of a channel.

docs/limits.md explains refusals and close codes to users; a test checks that it lists them all.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Refusal(StrEnum):
    """The ``reason`` in an error reply, in ``phx_error``, or in the answer to a request."""

    # Phoenix's
    UNMATCHED_TOPIC = "unmatched topic"
    JOIN_CRASHED = "join crashed"
    CHANNEL_CRASH = "channel_crash"
    TOO_MANY_CHANNELS = "too many channels joined"
    UNAUTHORIZED = "unauthorized"
    # ours
    UNHANDLED_EVENT = "unhandled event"
    TOPIC_CLOSED = "topic closed"
    HISTORY_LOST = "history lost"
    INVALID_PAYLOAD = "invalid payload"
    RATE_LIMITED = "rate limited"
    TOPIC_TOO_LONG = "topic too long"
    EVENT_TOO_LONG = "event too long"
    REF_TOO_LONG = "ref too long"
    INVALID_TOKEN = "invalid token"
    UNAVAILABLE = "unavailable"
    # of a request
    TOO_MANY_CONNECTIONS = "too many connections"
    DRAINING = "draining"
    REQUEST_TOO_LARGE = "request too large"
    TOO_MANY_FRAMES_WAIT = "too many frames wait"
    BAD_LINE = "a line is neither a text frame nor base64"


class CloseCode(IntEnum):
    """The close codes of a WebSocket. Never 1000: phoenix.js before 1.8.16 does not reconnect after it."""

    #: disconnect() was called for the socket's id, or its user logged out
    DISCONNECTED = 1001
    IDLE = 1002  #: the client sent no frame for TIMEOUT seconds
    TOO_LARGE = 1009  #: a frame is larger than MAX_FRAME_SIZE
    CRASH = 1011  #: a frame cannot be decoded, or the server has a bug
    COME_BACK = 1012  #: the process goes down, or MAX_CONNECTION_AGE is over
    OVERLOADED = 1013  #: more data waits than OUTBOUND or INBOUND allow
    EXPIRED = (
        4401  #: the token has ended (``Socket.expires_at`` is over), or was revoked
    )
    #: the user has more connections than MAX_CONNECTIONS_PER_USER, and this was the oldest
    REPLACED = 4429
    DENIED = 4403  #: refused for good: ``ConnectionRefused(permanent=True)``


class Reason(StrEnum):
    """Why a channel ended: the argument of ``Channel.terminate``."""

    LEFT = "left"  #: the client left the topic
    CLOSED = "closed"  #: the connection is gone
    NORMAL = "normal"  #: the channel stopped itself
    SHUTDOWN = "shutdown"  #: the channel stopped itself with this reason, or its join was denied
    DRAINING = "draining"  #: the server goes down
    DISCONNECTED = "disconnected"  #: disconnect() was called for the socket's id
    EXPIRED = "expired"  #: what let the client in has ended
    REPLACED = "replaced"  #: a newer connection of the user took its place
    REVOKED = "revoked"  #: revoke() was called for the client's token, or its user
    DUPLICATE_JOIN = "duplicate_join"  #: the client joined the topic again
    CRASH = "crash"  #: a callback raised
