"""ChannelServer: the rules around a channel's callbacks.

One stands behind every topic that a socket has joined (``Phoenix.Channel.Server``). Its
mailbox is the topic's one queue: frames of the client, intercepted broadcasts and messages
of the application are handled in the order they came, one at a time, in a task that exists
only while there is mail. A frame is classified when it is taken, not when it is read, so
join, leave and pushes of a topic keep their order while topics run beside each other.
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
from ..wire.serializers import LARGE_FRAME, decode_payload
from . import endings
from .budget import room
from .calls import call_user, emit_handled_in, handle_event
from .channel import Channel
from .joining import NO_IDS, Joining
from .large import handle_large
from .mailbox import BROADCAST, CLOSE, FRAME, INFO, INTERRUPT, STOP, Kind, Mailbox
from .membership import Info, Membership
from .refusals import refusals
from .routes import Route, history_of
from .throttle import retry_after

if TYPE_CHECKING:
    from .connection import Connection

logger = get_logger("phx_protocol.channel")

_FREE = contextlib.nullcontext()


class ChannelServer(Mailbox):
    """The server of one topic on one connection; outlives the channels that are joined there."""

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
        self.channel: Channel | None = None  # None: not joined
        # as the join was sent with: what pushes are compared to
        self.join_ref: Any = None
        # what replies and pushes carry
        self.channel_join_ref: Any = None
        # what the registry of subscribers reads when a broadcast is delivered
        self.fastlane = connection.fastlane(route.channel_class, False)
        self.write = connection.transport.write
        self.message: Message | None = None  # the frame being handled
        self.closings = 0  # how often the topic was closed
        self.previous_ids = NO_IDS  # of the earlier channels of its client
        self._throttles = connection.servers.throttles(route.channel_class)

    def __repr__(self) -> str:
        event = f" handles {shown(self.message.event, 100)}" if self.message else ""
        return f"<ChannelServer {self.topic!r}{event}>"

    # -------------------------------------------------------------- what comes

    def receive(self, message: Message, size: int) -> None:
        """Take a frame of the client, of `size` bytes, unless it sends more than it may."""
        if self._throttles is not None and (wait := self._wait(message)):
            return self._refuse_for(wait, message)
        if message.event == JOIN and self.channel is not None and self.task is not None:
            self._abandon()
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
            self._rest()

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        """Take a broadcast that the channel intercepts."""
        self._hold(BROADCAST, self.channel, broadcast)

    def deliver_further(self, membership: Membership, broadcast: Broadcast) -> None:
        """Take a broadcast of a further topic."""
        self._hold(INFO, membership, broadcast)

    def _hold(self, kind: Kind, receiver: Any, broadcast: Broadcast) -> None:
        """Have a broadcast wait for the channel.

        If more wait than one client may hold, a channel with a history loses them, and the
        connection of another one is closed.
        """
        size = len(memoryview(broadcast.payload))
        self.connection.backlog.held_bytes += size
        self._put(kind, (receiver, broadcast), size)
        if self.connection.holds_too_much:
            self.interrupt()
            if self.connection.holds_too_much:
                self.connection.overflowed(self.topic)

    def send_info(self, membership: Membership, message: Any) -> None:
        """Put a message of the application behind the other mail."""
        self._put(INFO, (membership, message))

    def stop_soon(self, membership: Membership) -> None:
        """End the channel behind the callback that runs, which looks for that; now if none does."""
        if self.task is None:
            self._put(STOP, membership)

    def interrupt(self) -> None:
        """Have the client join again: something is missing in what it got.

        Nothing more comes live from now on, and the channel ends behind its mail; broadcasts
        that wait are dropped, its history has them. Nothing happens to one that has no history.
        """
        if self.route.channel_class.history is None:
            return
        self.connection.node.pubsub.unsubscribe(self.topic, self)
        self._drop_broadcasts()
        self._put(INTERRUPT, self.channel)

    # ---------------------------------------------------------------- commands

    def close(self, reason: Reason, exception: BaseException | None = None) -> None:
        """Queue the end of the channel behind its pending mail: the connection is gone.

        A client that was sent away has no mail any more: what it sent before, joins included, is
        not handled, and its channel ends at once.
        """
        if reason is Reason.DISCONNECTED:
            self.closings += 1  # the join that is under way comes to nothing
            self.drop_mail(joins=True)
            endings.end_at_once(self, endings.GONE, reason, exception)
        self._put(CLOSE, (reason, exception))

    def close_topic(self) -> None:
        """End the channel at once, and refuse the join that is under way: the topic is closed."""
        self.closings += 1
        self.cut_off(Reason.SHUTDOWN)

    def cut_off(self, reason: Reason, exception: BaseException | None = None) -> None:
        """End the channel at once, even if a callback runs.

        Nothing more goes out but ``phx_close`` (``phx_error`` for a crash), and what waits is
        dropped; ``terminate`` is called when the callback that runs has ended.
        """
        endings.end_at_once(self, endings.cut_off_with(reason), reason, exception)

    # --------------------------------------------------------------- the rules

    async def _handle_message(self, message: Message) -> None:
        self.connection.backlog.frames -= 1
        action = protocol.classify(message, self.channel is not None, self.join_ref)
        if self.size >= LARGE_FRAME and action is not Action.LEAVE:
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
        """Charge the client that sent a large payload for the time of the block."""
        if self.size < LARGE_FRAME:
            return _FREE
        return self.connection.backlog.budget.charged()

    async def _join(self, message: Message) -> None:
        """``phx_join``. A topic that is joined already: the new reply first, then phx_close."""
        connection, admission = self.connection, self.connection.servers.admission
        duplicate, old_join_ref = self.channel is not None, self.join_ref
        if duplicate:
            admission.rejoin()
        elif not await admission.enter():
            excess = Refusal.TOO_MANY_CHANNELS
            return connection.refuse(message, excess, message.join_ref)
        channel = None
        try:
            await endings.end(self, endings.REPLACED, Reason.DUPLICATE_JOIN)
            if connection.is_cut_off:
                return  # while it waited for its place, or for the end of the old channel
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
        """Make `channel` the one that is joined: broadcasts come to it from here on."""
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
        """``phx_leave``: the reply, ``phx_close``, then terminate."""
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

    async def _handle_out(self, mail: tuple[Channel, Broadcast]) -> None:
        channel, broadcast = mail
        if channel is not self.channel:
            return
        tables = channel.__phx_tables__
        if broadcast.event not in tables.intercepts:
            return self._write(broadcast)
        # decoded for each receiver: what one handle_out changes no other one sees
        async with room(broadcast.payload):
            args = broadcast.event, decode_payload(broadcast)
            with channel.__phx__.handling(broadcast):
                await call_user(self, channel, tables.callbacks["handle_out"], *args)

    def _write(self, broadcast: Broadcast) -> None:
        """Send it to this client alone, as the fastlane would have sent it to all."""
        try:
            frame = self.fastlane.frame(broadcast)
            self.write(self.connection.transport.prepare(frame))
        except Exception as error:
            self.say_withheld(broadcast, error)

    def say_withheld(self, broadcast: Broadcast, error: Exception) -> None:
        """Log that the client does not get a broadcast."""
        # a serializer says what it cannot carry; anything else is a bug somewhere
        logger.error(
            "%s: %.100r cannot be sent: %s",
            self.topic,
            broadcast.event,
            describe(error),
            exc_info=None if isinstance(error, EncodeError) else error,
        )

    @property
    def history(self) -> History | None:
        """The history of the topic."""
        return history_of(self.topic)

    def ref_of(self, broadcast: Broadcast) -> str | None:
        """Return the offset of a kept broadcast, for a client that asked for offsets."""
        return broadcast.offset if self.fastlane.offsets else None

    async def _handle_info(self, mail: tuple[Membership, Any]) -> None:
        membership, message = mail
        channel = self.channel
        if channel is not None and channel.__phx__ is membership:
            if isinstance(message, Broadcast):
                message = Info(message.topic, message.event, decode_payload(message))
            handle_info = channel.__phx_tables__.callbacks["handle_info"]
            await call_user(self, channel, handle_info, message)

    # ---------------------------------------------------------------- the end

    async def stop_if_wanted(self, membership: Membership) -> None:
        """End a channel whose own code has stopped it, unless it has ended."""
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

    async def _failed(self, error: BaseException, what: Any) -> None:
        """Take it that the rules around a callback failed: a bug of ours, or of what they call."""
        logger.error("%s: a message was not handled", self.topic, exc_info=error)
        try:
            if self.channel is not None:
                await endings.crash(self, self.channel, error, quiet=True)
            elif isinstance(what, Message) and what.event == JOIN:
                self.connection.refuse(what, Refusal.JOIN_CRASHED, what.join_ref)
        except Exception:
            logger.exception("%s: nor can its client be told so", self.topic)

    async def _handle_parted(self, parted: endings.Parted) -> None:
        await endings.complete(parted)

    @property
    def _shutdown_timeout(self) -> float:
        own = self.route.channel_class.shutdown_timeout
        return self.connection.options.shutdown_timeout if own is None else own

    def _rest(self) -> None:
        if self.channel is None:
            self.connection.servers.forget(self)

    # ----------------------------------------------------------- later replies

    @property
    def id(self) -> str:
        """The name of the joined channel."""
        assert self.channel is not None
        return self.channel.__phx__.id

    def has_id(self, channel_id: str) -> bool:
        """Return whether its client has sent as `channel_id`, now or before it joined again."""
        channel = self.channel
        is_now = channel is not None and channel.__phx__.has_id(channel_id)
        return is_now or channel_id in self.previous_ids

    def reply(self, ref: ReplyRef, status: str, payload: Any) -> None:
        """Answer an event later; a reply to a channel that has ended is lost, as in Phoenix."""
        channel = self.channel
        if channel is not None and channel.__phx__.has_id(ref.channel_id):
            reply = Reply(ref.join_ref, ref.ref, self.topic, status, payload)
            self.connection.push(reply)
