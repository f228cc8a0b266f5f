"""Django signals for what happens: the events of Phoenix's telemetry, and some more.

Receivers are plain functions that are called on the event loop: they must not block. An error that
a receiver raises is logged and has no other effect. Durations are in seconds. Payloads and
parameters are as the client sent them: FILTER_PARAMETERS applies only to the log.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from django import dispatch

from .logs import get_logger

logger = get_logger("phx_protocol.signals")


class _Log(Protocol):
    """The receiver that logs a signal, if the log level of the sender allows it."""

    def is_on(self, sender: Any) -> bool: ...
    def __call__(self, sender: Any, **named: Any) -> None: ...


class Signal(dispatch.Signal):
    """A signal that costs almost nothing while it has no receiver."""

    #: the first receiver, which writes the log; ``event_log`` sets it
    log: _Log | None = None

    def is_heard(self, sender: Any) -> bool:
        """Return True if a receiver or the log will use it. Callers skip measuring when False."""
        return bool(self.receivers) or (self.log is not None and self.log.is_on(sender))

    def emit(self, sender: Any, **named: Any) -> None:
        """Call the log and every receiver. An error that one of them raises is logged."""
        if self.log is not None:
            try:
                self.log(sender, **named)
            except Exception:
                # the handlers of our own logger may fail in the same way
                with contextlib.suppress(Exception):
                    logger.exception("the log of a signal of %s failed", sender)
        if self.receivers:
            self.send_robust(sender, **named)

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        _log_crash(receiver, err)

    def connect(self, receiver: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Connect a receiver as Django does. Raises TypeError for an ``async def``: nothing awaits it."""
        if inspect.iscoroutinefunction(receiver):
            raise TypeError(
                f"{receiver!r} is async: a receiver of this signal is a plain function "
                "(which may start a task)"
            )
        super().connect(receiver, *args, **kwargs)


class AwaitedSignal(dispatch.Signal):
    """A signal whose receivers are awaited: a plain function, in a thread, or an ``async def``.

    They may take their time. An error that one of them raises is logged.
    """

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        _log_crash(receiver, err)


def _log_crash(receiver: Any, error: Exception) -> None:
    # in place of Django's log: the text of the error may come from a client
    name = getattr(receiver, "__qualname__", None) or receiver
    extra = {"cause": name}
    logger.error("the receiver %s crashed", name, exc_info=error, extra=extra)


# The sender of a signal is the class of the socket, channel or presence. From ``broadcast_sent``
# on the sender is None.

#: ``Socket.connect`` has decided: socket, transport, serializer (its class's name), duration,
#: result ("ok", "refused", "crashed")
socket_connected = Signal()
#: an accepted connection has ended, and all its channels: socket, code (the WebSocket
#: close code, None when there is none), reason, exception, duration (of the connection)
socket_disconnected = Signal()
#: ``Channel.join`` has decided: channel, payload, duration, result ("ok", "error", "refused"
#: because the user lacks a login or permission, "crashed"); after "ok" the channel may still be
#: ended before the client gets the reply
channel_joined = Signal()
#: a channel handled an event of a client: channel, event, payload, ref, duration, status (of the
#: reply, None without one), exception (the one that ended the channel, or None)
channel_handled_in = Signal()
#: a joined channel has ended: channel, reason, exception, duration (since its join)
channel_left = Signal()
#: a callback raised, or the channel stopped itself with a reason of its own: channel,
#: exception, event (the one it was handling, "phx_join", or None)
channel_crashed = Signal()
#: presences of a topic have changed; sent with each diff for the clients of this process: topic,
#: joins, leaves (both ``{key: {"metas": [...]}}``)
presence_changed = Signal()

#: this process sends a broadcast: topic, event, size (bytes of its payload)
broadcast_sent = Signal()
#: a broadcast of any process was delivered to the clients of this process: topic, event,
#: subscribers (of this process), latency (since it was sent; None when that time is unknown)
broadcast_delivered = Signal()
#: messages are lost: count, where ("layer": the channel layer did not accept them,
#: "outbound": their client does not read them, "longpoll": they cannot be sent to it)
messages_dropped = Signal()
#: a round of sockets is closed because the process goes down: count (sockets closed so far, this
#: round included), total, index (of the round, from 1), rounds, interval
socket_drain = Signal()
#: the channel layer fails: error
layer_failed = Signal()
#: the channel layer works again: failures (calls that failed so far), duration (of the outage)
layer_recovered = Signal()
#: the state fails: error
state_failed = Signal()
#: the state works again: failures and duration, as in ``layer_recovered``
state_recovered = Signal()
#: the server refused something or closed a connection: reason (a ``Refusal``, a ``CloseCode``, or
#: the HTTP status of a refused connection), as ``refusals`` counts it
refused = Signal()

#: a relay has sent rows of an outbox: database, count
outbox_sent = Signal()
#: a row of an outbox was set aside, as it cannot be sent: database, row (its id), topic, event, reason
outbox_set_aside = Signal()
#: what waits in the partitions of a relay, some times in each OUTBOX["LEASE"]: database, count (100,000 at most), age
#: (seconds since the oldest was written). It is measured only if there is a receiver.
outbox_waiting = Signal()
#: a broadcast that tells of a change in the database was delivered to the clients of this process: topic, event, latency
#: (seconds since the change was committed, or its row of the outbox written), unsent (those of them before it was sent)
change_delivered = Signal()

# The signals of ``phx_protocol.users`` are sent once for all processes, by one of them. The sender is None. If that
# process dies before its receivers have returned, another one sends them again, with the same id.

#: a user has the first connection (setting TRACK_USERS): user (the primary key as text), id, at (when)
user_online = AwaitedSignal()
#: a user had the last connection, and none for OFFLINE_AFTER seconds: user, id, at
user_offline = AwaitedSignal()
#: the first client has joined a topic (setting TRACK_TOPICS): topic, id, at
topic_occupied = AwaitedSignal()
#: the last client has left a topic, and none has joined it for OFFLINE_AFTER seconds: topic, id, at
topic_vacated = AwaitedSignal()
