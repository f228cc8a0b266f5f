"""ChannelServer: the rules around a channel's callbacks.

There is one for every topic that a socket has joined (``Phoenix.Channel.Server``). Its mailbox is
the only queue of the topic: frames of the client, intercepted broadcasts and messages of the
application are handled in the order in which they came, one at a time. A frame is classified when it
is handled, not when it is read. So joins, leaves and pushes of one topic keep their order, while
several topics run at the same time.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from .. import signals
from ..exceptions import EncodeError
from ..history import History
from ..logs import get_logger
from ..logs.printable import describe, shown
from ..pubsub.replies import ReplyRef
from ..wire import protocol
from ..wire.messages import JOIN, LEAVE, Broadcast, Message, Reply
from ..wire.protocol import Action
from ..wire.reasons import Reason, Refusal
from ..wire.serializers import LARGE_FRAME
from . import endings
from .calls import call_user, emit_handled_in, handle_event
from .channel import Channel
from .joining import NO_IDS, Joining
from .large import decoded, handle_large
from .loop_budgets import LARGE, PAYER, loop_budgets, paid_by
from .mailbox import (
    BROADCAST,
    CLOSE,
    FRAME,
    INFO,
    INTERRUPT,
    STOP,
    Delivery,
    Kind,
    Mailbox,
)
from .membership import Info, Membership
from .refusals import refusals
from .routes import Route, history_of
from .throttle import retry_after

if TYPE_CHECKING:
    from .connection import Connection

logger = get_logger("phx_protocol.channel")

_FREE = contextlib.nullcontext()


class ChannelServer(Mailbox):
    """The server of one topic on one connection. It lives longer than the channels that join there."""

    __slots__ = (
        "route",
        "subtopic",
        "channel",
        "join_ref",
        "channel_join_ref",
        "fastlane",
        "write",
        "message",
        "closings",
        "previous_ids",
        "_throttles",
        "__weakref__",
    )

    def __init__(
        self, connection: Connection, topic: str, route: Route, subtopic: str
    ) -> None:
        super().__init__(connection, topic)
        self.route = route
        self.subtopic = subtopic
        self.channel: Channel | None = None  # None if the topic is not joined
        # the join_ref that the client sent with its join; its pushes must have the same
        self.join_ref: Any = None
        # the join_ref in replies and pushes to the client
        self.channel_join_ref: Any = None
        # the registry of subscribers uses these two to deliver a broadcast
        self.fastlane = connection.fastlane(route.channel_class, False)
        self.write = connection.transport.write
        self.message: Message | None = None  # the frame being handled
        self.closings = 0  # how often ``close_topic`` or a disconnect ended it
        self.previous_ids = NO_IDS  # ids of earlier channels of the client
        self._throttles = connection.servers.throttles(route.channel_class)

    def __repr__(self) -> str:
        event = f" handles {shown(self.message.event, 100)}" if self.message else ""
        return f"<ChannelServer {self.topic!r}{event}>"

    # ---------------------------------------------------------- incoming mail

    def receive(self, message: Message, size: int) -> None:
        """Queue a frame of the client, of `size` bytes; refuse it if it exceeds a rate."""
        if self._throttles is not None and (wait := self._wait(message)):
            return self._refuse_for(wait, message)
        if message.event == JOIN and self.channel is not None and self.task is not None:
            self._cancel_running()
        backlog = self.connection.backlog
        backlog.frames += 1
        backlog.frame_bytes += size
        self.connection.node.pubsub.traffic.add(self.topic)
        self._put(FRAME, message, size)

    def _wait(self, message: Message) -> float:
        """Return the seconds that the client has to wait before it may send `message`."""
        if self._throttles is None or message.event == LEAVE:
            return 0.0
        return retry_after(self._throttles.of(message.event), time.monotonic())

    def _refuse_for(self, seconds: float, message: Message) -> None:
        self.connection.refuse_for(seconds, message, self.channel_join_ref)
        if self.task is None:
            self._on_empty()

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        """Queue a broadcast that the channel intercepts."""
        self._queue(BROADCAST, self.channel, broadcast)

    def deliver_info(self, membership: Membership, broadcast: Broadcast) -> None:
        """Queue a broadcast of another topic, for ``handle_info``."""
        self._queue(INFO, membership, broadcast)

    def _queue(self, kind: Kind, receiver: Any, broadcast: Broadcast) -> None:
        """Queue a broadcast for the channel.

        If too many bytes wait for one client, a channel with a history drops them and its client
        joins again. Without a history, the connection is closed.
        """
        size = len(memoryview(broadcast.payload))
        self.connection.backlog.held_bytes += size
        self._put(kind, Delivery(receiver, broadcast, PAYER.get()), size)
        if self.connection.holds_too_much:
            self.interrupt()
            if self.connection.holds_too_much:
                self.connection.overflowed(self.topic)

    def send_info(self, membership: Membership, message: Any) -> None:
        """Queue a message of the application."""
        self._put(INFO, Delivery(membership, message))

    def stop_soon(self, membership: Membership) -> None:
        """End the channel soon. If a callback runs, ``call_user`` ends the channel after it."""
        if self.task is None:
            self._put(STOP, membership)

    def interrupt(self) -> None:
        """Make the client join again, because it may have missed broadcasts.

        From now on no broadcast is delivered, and the channel ends after its pending mail. Waiting
        broadcasts are dropped: the history has them. Without a history, nothing happens.
        """
        if self.route.channel_class.history is None:
            return
        self.connection.node.pubsub.unsubscribe(self.topic, self)
        self._drop_broadcasts()
        self._put(INTERRUPT, self.channel)

    # ---------------------------------------------------------------- commands

    def close(self, reason: Reason, exception: BaseException | None = None) -> None:
        """Queue the end of the channel after its pending mail: the connection is gone.

        If a command has disconnected the client, all its mail is dropped, even joins, and the
        channel ends at once.
        """
        if reason is Reason.DISCONNECTED:
            self.closings += 1  # so that a join that still runs fails
            self.drop_mail(joins=True)
            endings.end_at_once(self, endings.GONE, reason, exception)
        self._put(CLOSE, (reason, exception))

    def close_topic(self) -> None:
        """End the channel at once, and refuse a join that still runs: the topic is closed."""
        self.closings += 1
        self.cut_off(Reason.SHUTDOWN)

    def cut_off(self, reason: Reason, exception: BaseException | None = None) -> None:
        """End the channel at once, even if a callback runs.

        The client gets only ``phx_close`` (``phx_error`` for a crash). Waiting mail is dropped.
        ``terminate`` is called when the running callback has ended.
        """
        endings.end_at_once(self, endings.cut_off_with(reason), reason, exception)

    # --------------------------------------------------------------- the rules

    async def _handle_message(self, message: Message) -> None:
        self.connection.backlog.frames -= 1
        action = protocol.classify(message, self.channel is not None, self.join_ref)
        if self.size >= LARGE_FRAME and action is not Action.LEAVE:
            self.payer = self.connection.backlog.budget
            await handle_large(self, message, self.size)
        elif action is Action.DELIVER:
            await self._handle_in(message)
        elif action is Action.JOIN or action is Action.REJOIN:
            await self._join(message)
        elif action is Action.LEAVE:
            await self._leave(message)
        else:
            self.connection.answer(action, message)

    async def handle(self, message: Message) -> None:
        """Handle a join, or an event of the joined channel."""
        if message.event == JOIN:
            await self._join(message)
        else:
            await self._handle_in(message)

    def charged(self) -> contextlib.AbstractContextManager[None]:
        """Charge for the time of the block, if a large payload is handled: the client that sent it.

        If that is a client of another process nobody pays, but before the next large payload all
        else has the loop.
        """
        if self.size < LARGE_FRAME:
            return _FREE
        return (self.payer or loop_budgets().turns).charged()

    def paying(self) -> contextlib.AbstractContextManager[None]:
        """Let who pays for a large payload also pay for the receivers of what is broadcast in the block."""
        return _FREE if self.size < LARGE else paid_by(self.payer)

    async def _join(self, message: Message) -> None:
        """Handle ``phx_join``. If the topic is joined already, the new reply comes first, then ``phx_close``."""
        connection, admission = self.connection, self.connection.servers.admission
        duplicate, old_join_ref = self.channel is not None, self.join_ref
        if duplicate:
            admission.rejoin()
        elif not await admission.enter():
            if admission.is_closed:
                return
            excess = Refusal.TOO_MANY_CHANNELS
            return connection.refuse(message, excess, message.join_ref)
        channel = None
        try:
            await endings.end(self, endings.REPLACED, Reason.DUPLICATE_JOIN)
            if connection.is_cut_off:
                return  # cut off while it waited for a place, or for the end of the old channel
            self.channel_join_ref = protocol.channel_join_ref(message)
            channel = self.route.make(self, self.subtopic)
            decision = await Joining(self, channel, message).run()
        finally:
            if channel is None or channel.__phx__.joined_at is None:
                admission.decided(False)
        if duplicate:
            connection.push(protocol.closed(self.topic, old_join_ref))
        if decision.is_permanent:
            connection.push(protocol.closed(self.topic, message.join_ref))
        if decision.status == "ok":
            await self._after_join(channel)
        elif decision.status == "error":
            await endings.terminate(channel, Reason.SHUTDOWN)

    def begin(self, channel: Channel, join: Message) -> None:
        """Make `channel` the joined one: from now on broadcasts are delivered to it."""
        self.channel, self.join_ref = channel, join.join_ref
        channel.__phx__.joined_at = time.monotonic()
        self.connection.servers.admission.decided(True)
        self.connection.node.pubsub.subscribe(self.topic, self)

    async def _after_join(self, channel: Channel) -> None:
        if channel.presence is not None:
            await call_user(self, channel, channel.presence.enter)
        if self.channel is channel:
            after_join = channel.__phx_tables__.callbacks["after_join"]
            await call_user(self, channel, after_join)

    async def _leave(self, message: Message) -> None:
        """Handle ``phx_leave``: send the reply and ``phx_close``, then call ``terminate``."""
        self.connection.push(protocol.ok(message, self.channel_join_ref))
        await endings.end(self, endings.LEFT, Reason.LEFT)

    async def _handle_in(self, message: Message) -> None:
        """Handle an event of the client."""
        channel, event = self.channel, message.event
        assert channel is not None
        self.message = message
        tables = channel.__phx_tables__
        handler = tables.events.get(event) if isinstance(event, str) else None
        is_heard = signals.channel_handled_in.is_heard(type(channel))
        started = time.perf_counter() if is_heard else 0.0
        try:
            if handler is None:
                if self.connection.renew(message, self.channel_join_ref):
                    return
                args = event, message.payload
                outcome = await call_user(
                    self, channel, tables.callbacks["handle_in"], *args
                )
            else:
                outcome = await handle_event(self, channel, handler, message)
        finally:
            self.message = None
        if is_heard:
            took = time.perf_counter() - started
            emit_handled_in(channel, message, outcome, took)
        del outcome  # if it is an error, its traceback leads to this frame

    async def _handle_out(self, mail: Delivery) -> None:
        channel: Channel = mail.receiver
        broadcast: Broadcast = mail.message
        if channel is not self.channel:
            return
        tables = channel.__phx_tables__
        if broadcast.event not in tables.intercepts:
            return self._write(broadcast)
        # decode it for each receiver, so that none sees what another handle_out has changed
        async with decoded(self, broadcast, mail.payer) as payload:
            if channel is not self.channel:
                return  # it has ended while the payload waited
            handle_out = tables.callbacks["handle_out"]
            with channel.__phx__.handling(broadcast):
                await call_user(self, channel, handle_out, broadcast.event, payload)

    def _write(self, broadcast: Broadcast) -> None:
        """Send `broadcast` to this client, encoded as for all clients."""
        try:
            frame = self.fastlane.frame(broadcast)
            self.write(self.connection.transport.prepare(frame))
        except Exception as error:
            self.log_not_sent(broadcast, error)

    def log_not_sent(self, broadcast: Broadcast, error: Exception) -> None:
        """Log that a broadcast could not be sent to the client."""
        # an EncodeError explains itself; any other error is a bug
        logger.error(
            "%s: %.100r cannot be sent: %s",
            self.topic,
            broadcast.event,
            describe(error),
            exc_info=None if isinstance(error, EncodeError) else error,
        )

    @property
    def history(self) -> History | None:
        """The history of the topic, or None."""
        return history_of(self.topic)

    def ref_of(self, broadcast: Broadcast) -> str | None:
        """Return the offset of a kept broadcast; None if the client has not asked for offsets."""
        return broadcast.offset if self.fastlane.offsets else None

    async def _handle_info(self, mail: Delivery) -> None:
        membership: Membership = mail.receiver
        message = mail.message
        if not membership.is_current:
            return
        if not isinstance(message, Broadcast):
            return await self._call_handle_info(membership, message)
        async with decoded(self, message, mail.payer) as payload:
            info = Info(message.topic, message.event, payload)
            await self._call_handle_info(membership, info)

    async def _call_handle_info(self, membership: Membership, message: Any) -> None:
        channel = self.channel
        if channel is not None and channel.__phx__ is membership:
            handle_info = channel.__phx_tables__.callbacks["handle_info"]
            await call_user(self, channel, handle_info, message)

    # ---------------------------------------------------------------- the end

    async def stop_if_wanted(self, membership: Membership) -> None:
        """End the channel if its own code has called ``stop``, unless it has ended already."""
        channel, reason = self.channel, membership.stop_reason
        if channel is None or channel.__phx__ is not membership or reason is None:
            return
        if reason in (Reason.NORMAL, Reason.SHUTDOWN):
            await endings.end(self, endings.STOPPED, Reason(reason))
        else:
            error = RuntimeError(f"stopped with the reason {shown(reason)}")
            await endings.crash(self, channel, error, quiet=True)

    async def _handle_interrupt(self, channel: Channel | None) -> None:
        if channel is not None and channel is self.channel:
            refusals.count(Refusal.HISTORY_LOST)
            await endings.end(self, endings.HISTORY_LOST, Reason.SHUTDOWN)

    async def _handle_close(self, mail: tuple[Reason, BaseException | None]) -> None:
        await endings.end(self, endings.GONE, *mail)

    async def _on_error(self, error: BaseException, what: Any) -> None:
        """Log an error outside of a callback: a bug of ours or of another library. End the channel."""
        logger.error("%s: a message was not handled", self.topic, exc_info=error)
        try:
            if self.channel is not None:
                await endings.crash(self, self.channel, error, quiet=True)
            elif isinstance(what, Message) and what.event == JOIN:
                self.connection.refuse(what, Refusal.JOIN_CRASHED, what.join_ref)
        except Exception:
            logger.exception(
                "%s: its client cannot be informed of that either", self.topic
            )

    async def _handle_parted(self, parted: endings.Parted) -> None:
        await endings.complete(parted)

    @property
    def shutdown_timeout(self) -> float:
        own = self.route.channel_class.shutdown_timeout
        return self.connection.options.shutdown_timeout if own is None else own

    def _on_empty(self) -> None:
        if self.channel is None:
            self.connection.servers.forget(self)

    # ----------------------------------------------------------- later replies

    @property
    def id(self) -> str:
        """The id of the joined channel."""
        assert self.channel is not None
        return self.channel.__phx__.id

    def has_id(self, channel_id: str) -> bool:
        """Return True if `channel_id` is the id of this or an earlier channel of the client, or a Tab's."""
        channel = self.channel
        is_now = channel is not None and channel.__phx__.has_id(channel_id)
        if is_now or channel_id in self.previous_ids:
            return True
        return "@" in channel_id and self.connection.has_made_the_request_of(channel_id)

    def reply(self, ref: ReplyRef, status: str, payload: Any) -> None:
        """Send a later reply to an event. If the channel has ended, it is lost, as in Phoenix."""
        channel = self.channel
        if channel is not None and channel.__phx__.has_id(ref.channel_id):
            reply = Reply(ref.join_ref, ref.ref, self.topic, status, payload)
            self.connection.push(reply)
