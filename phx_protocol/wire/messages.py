"""What travels: values without behaviour (``Phoenix.Socket.Message``, ``Reply``, ``Broadcast``)."""

from __future__ import annotations

from typing import Any

import msgspec

JOIN = "phx_join"
LEAVE = "phx_leave"
REPLY = "phx_reply"
CLOSE = "phx_close"
ERROR = "phx_error"

HEARTBEAT_TOPIC = "phoenix"
HEARTBEAT = "heartbeat"

#: One encoded message: ``str`` travels in a text frame, ``bytes`` in a binary one.
Frame = str | bytes


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A push of either side. In this order of fields it is the V2 text frame itself.

    `join_ref` and `ref` are whatever JSON the client sent (a string with phoenix.js, an
    integer or null with others) and go back as they came. `topic` and `event` are strings
    in every message of a sane client, and any JSON in those of the others. A `payload` of
    ``bytes`` is a binary one.
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
    its place in the topic's history, if it is kept; it travels as the ref, which is null else.
    `sent_at` (seconds of the epoch), `headers` (what traces need) and `sender` (the id of the
    channel that must not get it) never reach a client.
    """

    topic: str
    event: str
    payload: msgspec.Raw | bytes
    offset: str | None = None
    sent_at: float | None = None
    headers: dict[str, str] | None = None
    sender: str | None = None
