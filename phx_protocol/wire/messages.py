"""The messages: values without behaviour (``Phoenix.Socket.Message``, ``Reply``, ``Broadcast``)."""

from __future__ import annotations

from typing import Any

import msgspec

JOIN = "phx_join"
LEAVE = "phx_leave"
REPLY = "phx_reply"
CLOSE = "phx_close"
ERROR = "phx_error"

#: the event with which a client sends a new token, in ``{"access_token": "..."}`` (supabase-js's)
ACCESS_TOKEN = "access_token"
CONNECTION_ID = "connection_id"
HEARTBEAT_TOPIC = "phoenix"
HEARTBEAT = "heartbeat"

#: One encoded message: ``str`` travels in a text frame, ``bytes`` in a binary one.
Frame = str | bytes


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A push of the client or of the server. The order of the fields is that of a V2 text frame.

    `join_ref` and `ref` are any JSON that the client sent (a string with phoenix.js, an
    integer or null with others) and are sent back unchanged. `topic` and `event` are strings
    from a correct client, and may be any JSON from others. A `payload` of ``bytes`` is a binary one.
    """

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The answer to the message with `ref`: `status` is "ok", "error" or any other word."""

    join_ref: Any
    ref: Any
    topic: Any
    status: str
    payload: Any


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """A message to all subscribers of `topic`.

    `payload` is JSON that was encoded once (``msgspec.Raw``) or binary (``bytes``). `offset` is
    its place in the topic's history, if the history keeps it; clients get it as the ref, which is
    null otherwise. `sent_at` (seconds of the epoch), `headers` (for tracing), `sender` (the id
    of the channel that must not get it) and `committed_at` (when the change that it tells of was
    committed) never reach a client.
    """

    topic: str
    event: str
    payload: msgspec.Raw | bytes
    offset: str | None = None
    sent_at: float | None = None
    headers: dict[str, str] | None = None
    sender: str | None = None
    committed_at: float | None = None
