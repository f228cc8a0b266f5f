"""The counters and histograms, with a receiver for each signal.

A client cannot choose the value of a label: each is the name of a class, or in a fixed set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import Counter, Histogram

from ... import signals
from ...socket.routes import pattern_of
from ...wire.reasons import CloseCode

#: the label for a value that is not in its fixed set
OTHER = "other"
#: the close codes of RFC 6455 that a connection can end with, and ours
CODES = frozenset({1000, 1001, 1002, 1003, *range(1005, 1016), *CloseCode})
STATUSES = frozenset({"ok", "error"})
#: seconds, from a hop within a process to a queue that has grown
FINE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

CONNECTS = Counter(
    "phx_socket_connects",
    "Connections that Socket.connect has decided on",
    ["socket", "transport", "result"],
)
DISCONNECTS = Counter(
    "phx_socket_disconnects",
    "Connections that have ended, by close code",
    ["socket", "code"],
)
JOINS = Counter(
    "phx_joins", "Joins that a channel has decided on", ["channel", "result"]
)
JOIN_SECONDS = Histogram(
    "phx_join_seconds", "Time that joins took", ["channel"], buckets=FINE
)
LEAVES = Counter("phx_leaves", "Channels that have ended", ["channel", "reason"])
EVENTS = Counter(
    "phx_events", "Events of clients that were handled", ["channel", "event"]
)
EVENT_SECONDS = Histogram(
    "phx_event_seconds", "Time that handling events took", ["channel"], buckets=FINE
)
REPLIES = Counter("phx_replies", "Events that were answered", ["channel", "status"])
CRASHES = Counter(
    "phx_channel_crashes", "Callbacks of channels that raised", ["channel"]
)
BROADCASTS = Counter("phx_broadcasts", "Broadcasts that were sent")
BROADCAST_BYTES = Counter("phx_broadcast_bytes", "Payloads of broadcasts sent")
DELIVERIES = Counter(
    "phx_deliveries", "Broadcasts handed to subscribers, once for each"
)
LATENCY = Histogram(
    "phx_broadcast_latency_seconds",
    "Time from the sending of a broadcast to its delivery, in each process that has it",
    buckets=FINE,
)
CHANGE_LATENCY = Histogram(
    "phx_change_latency_seconds",
    "Time from the commit of a change to its delivery, in each process that has it",
    ["pattern"],
    buckets=(*FINE, 10.0, 30.0, 60.0),
)
DROPPED = Counter("phx_messages_dropped", "Messages that will not arrive", ["where"])
PRESENCE_JOINS = Counter(
    "phx_presence_joins",
    "Keys that joined, once in each process that sends its clients the diff",
    ["presence"],
)
PRESENCE_LEAVES = Counter(
    "phx_presence_leaves",
    "Keys that left, once in each process that sends its clients the diff",
    ["presence"],
)
REFUSALS = Counter("phx_refusals", "Refusals by reason", ["reason"])
OUTAGES = Counter(
    "phx_outages", "Times that the channel layer or the state began to fail", ["what"]
)
OUTBOX_SENT = Counter(
    "phx_outbox_sent", "Rows of an outbox that were sent", ["database"]
)
OUTBOX_ASIDE = Counter(
    "phx_outbox_set_aside", "Rows of an outbox that cannot be sent", ["database"]
)


def dotted(cls: type) -> str:
    """Return the dotted name of a class, for a label."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _connected(sender: Any, transport: str, result: str, **kwargs: Any) -> None:
    CONNECTS.labels(dotted(sender), transport, result).inc()


def _disconnected(sender: Any, code: int | None, **kwargs: Any) -> None:
    known = code if code is None or code in CODES else OTHER
    DISCONNECTS.labels(dotted(sender), str(known).lower()).inc()


def _joined(sender: Any, duration: float, result: str, **kwargs: Any) -> None:
    JOINS.labels(dotted(sender), result).inc()
    JOIN_SECONDS.labels(dotted(sender)).observe(duration)


def _left(sender: Any, reason: str, **kwargs: Any) -> None:
    LEAVES.labels(dotted(sender), reason).inc()


def _handled_in(
    sender: Any, event: Any, duration: float, status: str | None, **kwargs: Any
) -> None:
    channel = dotted(sender)
    is_declared = isinstance(event, str) and event in sender.__phx_tables__.events
    EVENTS.labels(channel, event if is_declared else OTHER).inc()
    EVENT_SECONDS.labels(channel).observe(duration)
    if status is not None:
        REPLIES.labels(channel, status if status in STATUSES else OTHER).inc()


def _crashed(sender: Any, **kwargs: Any) -> None:
    CRASHES.labels(dotted(sender)).inc()


def _sent(sender: Any, size: int, **kwargs: Any) -> None:
    BROADCASTS.inc()
    BROADCAST_BYTES.inc(size)


def _delivered(
    sender: Any, subscribers: int, latency: float | None, **kwargs: Any
) -> None:
    DELIVERIES.inc(subscribers)
    if latency is not None:
        LATENCY.observe(latency)


def _change_delivered(sender: Any, topic: str, latency: float, **kwargs: Any) -> None:
    CHANGE_LATENCY.labels(pattern_of(topic) or OTHER).observe(latency)


def _dropped(sender: Any, count: int, where: str, **kwargs: Any) -> None:
    DROPPED.labels(where).inc(count)


def _presence_changed(
    sender: Any, joins: Mapping[str, Any], leaves: Mapping[str, Any], **kwargs: Any
) -> None:
    PRESENCE_JOINS.labels(dotted(sender)).inc(len(joins))
    PRESENCE_LEAVES.labels(dotted(sender)).inc(len(leaves))


def _refused(sender: Any, reason: str | int, **kwargs: Any) -> None:
    REFUSALS.labels(str(reason)).inc()


def _layer_failed(sender: Any, **kwargs: Any) -> None:
    OUTAGES.labels("layer").inc()


def _state_failed(sender: Any, **kwargs: Any) -> None:
    OUTAGES.labels("state").inc()


def _outbox_sent(sender: Any, database: str, count: int, **kwargs: Any) -> None:
    OUTBOX_SENT.labels(database).inc(count)


def _outbox_set_aside(sender: Any, database: str, **kwargs: Any) -> None:
    OUTBOX_ASIDE.labels(database).inc()


RECEIVERS: dict[signals.Signal, Callable[..., None]] = {
    signals.socket_connected: _connected,
    signals.socket_disconnected: _disconnected,
    signals.channel_joined: _joined,
    signals.channel_left: _left,
    signals.channel_handled_in: _handled_in,
    signals.channel_crashed: _crashed,
    signals.broadcast_sent: _sent,
    signals.broadcast_delivered: _delivered,
    signals.change_delivered: _change_delivered,
    signals.messages_dropped: _dropped,
    signals.presence_changed: _presence_changed,
    signals.refused: _refused,
    signals.layer_failed: _layer_failed,
    signals.state_failed: _state_failed,
    signals.outbox_sent: _outbox_sent,
    signals.outbox_set_aside: _outbox_set_aside,
}


def install() -> None:
    """Count from now on; a second call does nothing."""
    for signal, receiver in RECEIVERS.items():
        signal.connect(receiver)
