"""Endings: the ways in which a channel ends, and the frame that its client gets then."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import signals
from ..concurrency import callbacks
from ..concurrency.tasks import CRASHES, must_end
from ..logs import get_logger
from ..wire import protocol
from ..wire.messages import Message
from ..wire.reasons import Reason, Refusal
from .mailbox import PARTED
from .refusals import refusals

if TYPE_CHECKING:
    from .channel import Channel
    from .server import ChannelServer

logger = get_logger("phx_protocol.channel")


class Ending(NamedTuple):
    """A way in which a channel ends. `frame` makes the message for its client; None: it gets none."""

    frame: Callable[[str, Any], Message] | None
    #: True if the message is sent after ``terminate``, as in Phoenix; False: before it
    is_after_terminate: bool = False


#: its client sent ``phx_leave``
LEFT = Ending(protocol.closed)
#: its own code called ``stop``
STOPPED = Ending(protocol.closed)
#: a callback raised
CRASHED = Ending(protocol.crashed, is_after_terminate=True)
#: its client may have missed a broadcast, and gets it only by another join
HISTORY_LOST = Ending(
    partial(protocol.crashed, reason=Refusal.HISTORY_LOST), is_after_terminate=True
)
#: its client joined the topic again: ``phx_close`` follows the reply of the new join
REPLACED = Ending(None)
#: the connection is gone, or the reply of the join could not be sent
GONE = Ending(None)
#: a command ended it, even in the middle of a callback
CUT_OFF = Ending(protocol.closed)
#: checking whether its client may stay raised an error
CUT_OFF_BY_CRASH = Ending(protocol.crashed)


def cut_off_with(reason: Reason) -> Ending:
    """Return the ending of a channel that is cut off."""
    return CUT_OFF_BY_CRASH if reason is Reason.CRASH else CUT_OFF


class Parted(NamedTuple):
    """A channel that has ended, but whose ``terminate`` was not called yet."""

    channel: Channel
    reason: Reason
    exception: BaseException | None


async def end(
    server: ChannelServer,
    ending: Ending,
    reason: Reason,
    exception: BaseException | None = None,
) -> None:
    """End the joined channel, if any, and send its client the message of `ending`."""
    channel, join_ref = server.channel, server.join_ref
    if channel is None:
        return
    if not ending.is_after_terminate:
        _send(ending, server, join_ref)
    await complete(_part(server, channel, reason, exception))
    if ending.is_after_terminate:
        _send(ending, server, join_ref)


def end_at_once(
    server: ChannelServer,
    ending: Ending,
    reason: Reason,
    exception: BaseException | None = None,
) -> None:
    """End the joined channel, if any, even while a callback of it runs.

    Its mail is dropped. ``terminate`` is called when the running callback has ended.
    """
    channel = server.channel
    if channel is None:
        return
    channel.__phx__.is_cut_off = True
    parted = _part(server, channel, reason, exception)
    server.drop_mail()
    channel.__phx__.call_on_end(reason)  # now, as the running callback may take long
    server.put_first(PARTED, parted)
    _send(ending, server, server.join_ref)


async def crash(
    server: ChannelServer, channel: Channel, error: BaseException, quiet: bool = False
) -> None:
    """End `channel` because a callback of it raised `error`. Other channels go on."""
    if server.channel is not channel:
        return
    report_crash(channel, error, server.message and server.message.event, quiet)
    await end(server, CRASHED, Reason.CRASH, error)
    callbacks.close_stale_connections()  # a dead connection may have caused the crash


def _send(ending: Ending, server: ChannelServer, join_ref: Any) -> None:
    if ending.frame is not None:
        server.connection.push(ending.frame(server.topic, join_ref))


def _part(
    server: ChannelServer,
    channel: Channel,
    reason: Reason,
    exception: BaseException | None,
) -> Parted:
    """Detach `channel` from the topic: no more messages are delivered to it."""
    server.channel = None
    if reason is not Reason.DUPLICATE_JOIN:  # then the new join keeps the place
        server.connection.servers.admission.left()
    server.connection.node.pubsub.unsubscribe(server.topic, server)
    channel.__phx__.unsubscribe_all()
    return Parted(channel, reason, exception)


async def complete(parted: Parted) -> None:
    """Call ``terminate`` of a channel that has ended, then its end callbacks, then send the signal."""
    channel, reason, exception = parted
    channel.exception = exception
    try:
        await terminate(channel, reason)
    finally:
        channel.__phx__.call_on_end(reason)
        signals.channel_left.emit(
            type(channel),
            channel=channel,
            reason=reason,
            exception=exception,
            duration=time.monotonic() - (channel.__phx__.joined_at or 0.0),
        )
        # its traceback leads to the channel, and to the payload that was handled
        channel.exception = None


async def terminate(channel: Channel, reason: Reason) -> None:
    """Call ``terminate``; log the error if it raises one."""
    try:
        callbacks.close_stale_connections_if_due()
        await channel.__phx_tables__.callbacks["terminate"](channel, reason)
    except CRASHES as error:
        if must_end(error):
            raise
        topic, kind = channel.__phx__.server.topic, type(channel).__name__
        logger.exception("%s: %s.terminate crashed", topic, kind)


def report_crash(
    channel: Channel, error: BaseException, event: Any, quiet: bool = False
) -> None:
    """Count and log the crash of a channel, and send the signal."""
    refusals.count(Refusal.CHANNEL_CRASH)
    topic, kind = channel.__phx__.server.topic, type(channel)
    if quiet:
        logger.error("%s: %s", topic, error)
    else:
        logger.error(
            "%s: %s crashed on %.100r",
            topic,
            kind.__name__,
            event,
            exc_info=error,
            extra={"cause": kind},
        )
    emit_crashed(channel, error, event)


def emit_crashed(channel: Channel, error: BaseException, event: Any) -> None:
    signals.channel_crashed.emit(
        type(channel), channel=channel, exception=error, event=event
    )
