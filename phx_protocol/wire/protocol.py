"""The table that decides what a message asks for, and the messages that a server creates."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from .json import encode
from .messages import (
    CLOSE,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_TOPIC,
    JOIN,
    LEAVE,
    Message,
    Reply,
)
from .reasons import Refusal


class Action(Enum):
    """The kinds of messages: the results of ``classify``."""

    HEARTBEAT = auto()  # answered at once, even if other messages wait
    JOIN = auto()
    REJOIN = auto()  # the topic is joined: the old channel ends, a new one is joined
    LEAVE = auto()
    # a leave of a topic that is not joined: ok, so that a client can always leave
    LEFT = auto()
    DELIVER = auto()
    STALE = auto()  # meant for a channel that has ended: ignored
    UNMATCHED = auto()


def classify(message: Message, joined: bool, join_ref: Any) -> Action:
    """Return what `message` asks for. `joined` is True if its topic is joined, with `join_ref`.

    Mirrors ``Phoenix.Socket.__in__/2`` of 1.8.12, clause by clause.
    """
    event = message.event
    if event == HEARTBEAT and message.topic == HEARTBEAT_TOPIC:
        return Action.HEARTBEAT
    if event == JOIN:
        return Action.REJOIN if joined else Action.JOIN
    if not joined:
        return Action.LEFT if event == LEAVE else Action.UNMATCHED
    if message.join_ref is not None and not same_ref(message.join_ref, join_ref):
        return Action.STALE
    return Action.LEAVE if event == LEAVE else Action.DELIVER


def same_ref(one: Any, other: Any) -> bool:
    """Return True if two refs are the same JSON: 1, 1.0, true and "1" are four different refs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (dict, list)):
        return encode(one) == encode(other)
    return bool(one == other)


def channel_join_ref(join: Message) -> Any:
    """Return the join_ref for a channel's replies and pushes.

    If the client joins without one, it is the ref of the join
    (``join_ref || ref`` in Phoenix, where false counts as missing too).
    """
    return (
        join.ref if join.join_ref is None or join.join_ref is False else join.join_ref
    )


def ok(message: Message, join_ref: Any = None, payload: Any = None) -> Reply:
    return Reply(join_ref, message.ref, message.topic, "ok", payload or {})


def refusal(
    message: Message, reason: Refusal, join_ref: Any = None, **details: Any
) -> Reply:
    """Make an error reply with the payload ``{"reason": reason}`` and `details`.

    If no channel is joined, or the join failed, its join_ref is null, whatever the client sent.
    """
    payload = {"reason": reason, **details}
    return Reply(join_ref, message.ref, message.topic, "error", payload)


def closed(topic: str, join_ref: Any) -> Message:
    """Make a ``phx_close``: the channel ended normally. Its ref and join_ref are those of the join."""
    return Message(join_ref, join_ref, topic, CLOSE, {})


def crashed(
    topic: str, join_ref: Any, reason: Refusal = Refusal.CHANNEL_CRASH
) -> Message:
    """Make a ``phx_error``: the channel ended because of an error; clients join again."""
    return Message(join_ref, join_ref, topic, ERROR, {"reason": reason})
