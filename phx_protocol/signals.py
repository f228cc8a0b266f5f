"""What happens, as Django signals: Phoenix's telemetry, and what its users ask for beside it.

Receivers are plain functions, called on the event loop: they must not wait, and what they
raise is logged and hurts nobody. Durations are in seconds. Payloads and parameters come as
they were sent: FILTER_PARAMETERS is for the log.
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
    """Writes a line of the log for what a signal tells, if the sender's level is on."""

    def is_on(self, sender: Any) -> bool: ...
    def __call__(self, sender: Any, **named: Any) -> None: ...


class Signal(dispatch.Signal):
    """A signal that costs next to nothing while nobody listens."""

    #: its first receiver, which ``event_log`` sets
    log: _Log | None = None

    def is_heard(self, sender: Any) -> bool:
        """Return True if a receiver or the log will use it. Callers skip measuring when False."""
        return bool(self.receivers) or (self.log is not None and self.log.is_on(sender))

    def emit(self, sender: Any, **named: Any) -> None:
        """Tell everybody. What the log or a receiver raises is logged."""
        if self.log is not None:
            try:
                self.log(sender, **named)
            except Exception:
                with contextlib.suppress(
                    Exception
                ):  # whatever broke it may be all handlers'
                    logger.exception("a line about %s cannot be written", sender)
        if self.receivers:
            self.send_robust(sender, **named)

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # in place of Django's: what a receiver raises may quote a client
        name = getattr(receiver, "__qualname__", None) or receiver
        extra = {"cause": name}
        logger.error("the receiver %s crashed", name, exc_info=err, extra=extra)

    def connect(self, receiver: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """As Django's. Raises TypeError for an ``async def``: nothing here waits for a receiver."""
        if inspect.iscoroutinefunction(receiver):
            raise TypeError(
                f"{receiver!r} is async: a receiver of this signal is a plain function "
                "(which may start a task)"
            )
        super().connect(receiver, *args, **kwargs)


# Their senders are the classes that are concerned: of the socket, the channel, the presence;
# None from ``broadcast_sent`` on.

#: ``Socket.connect`` has decided: socket, transport, serializer (its class's name), duration,
#: result ("ok", "refused", "crashed")
socket_connected = Signal()
#: a connection that was let in is gone, and its channels with it: socket, code (the WebSocket
#: close code, None when there is none), reason, exception, duration (of the connection)
socket_disconnected = Signal()
#: ``Channel.join`` has decided: channel, payload, duration, result ("ok", "error", "refused"
#: by what it asks of the user, "crashed"); one that is "ok" may still be cut off before it counts
channel_joined = Signal()
#: an event of a client was handled: channel, event, payload, ref, duration, status (of the
#: reply, None without one), exception (what ended the channel, or None)
channel_handled_in = Signal()
#: a channel that was joined has ended: channel, reason, exception, duration (since its join)
channel_left = Signal()
#: a callback raised, or the channel stopped itself with a reason of its own: channel,
#: exception, event (that was handled, "phx_join", or None)
channel_crashed = Signal()
#: who is on a topic has changed, as clients of this process are told: topic, joins, leaves
#: (both ``{key: {"metas": [...]}}``)
presence_changed = Signal()

#: a broadcast of this process goes out: topic, event, size (bytes of its payload)
broadcast_sent = Signal()
#: a broadcast of whatever process has reached the clients of this one: topic, event,
#: subscribers (of this process), latency (since it was sent; None when that is not told)
broadcast_delivered = Signal()
#: messages will not arrive: count, where ("layer": the channel layer did not take them,
#: "outbound": their client does not take them, "longpoll": it cannot be sent them)
messages_dropped = Signal()
#: a round of sockets is being closed because the process goes down: count (with this round),
#: total, index (of the round, from 1), rounds, interval
socket_drain = Signal()
#: the channel layer fails: error
layer_failed = Signal()
#: the channel layer works again: failures (so far), duration (of the outage)
layer_recovered = Signal()
#: the state fails: error
state_failed = Signal()
#: the state works again: failures, duration, as above
state_recovered = Signal()
#: something was refused, or a connection closed by us: reason (a ``Refusal``, a ``CloseCode``, or
#: the HTTP status of a connection that was refused), as ``limits.refusals`` counts it
refused = Signal()
