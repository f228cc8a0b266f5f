"""ChannelServer: the mailbox, the task and the rules around a channel's callbacks.

One stands behind every topic that a socket has joined (``Phoenix.Channel.Server``). Its
mailbox is the topic's one queue: frames of the client, intercepted broadcasts and messages
of the application are handled in the order they came, one at a time, in a task that exists
only while there is mail. A frame is classified when it is taken, not when it is read, so
join, leave and pushes of a topic keep their order while topics run beside each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import signals
from ..concurrency import callbacks
from ..concurrency.tasks import CRASHES, is_cancelled, must_end
from ..exceptions import DecodeError, EncodeError, InvalidPayload, JoinDenied
from ..history.recovery import Recovery, RecoveryRequest
from ..history.streams import Streams
from ..logs import get_logger
from ..logs.printable import describe, shown
from ..pubsub.replies import ReplyRef
from ..wire import json, protocol
from ..wire.messages import JOIN, LEAVE, Broadcast, Message, Reply
from ..wire.protocol import Action
from ..wire.reasons import Reason, Refusal
from ..wire.serializers import SMALL, with_payload
from .budget import Budget, room
from .channel import Channel
from .events import Handler, parse_answer
from .refusals import refusals
from .routes import history_of
from .throttle import retry_after

if TYPE_CHECKING:
    from .connection import Connection
    from .routes import Route

logger = get_logger("phx_protocol.channel")

# the broadcast that this code is asked about by ``handle_out``
_handled: ContextVar[Broadcast | None] = ContextVar(
    "phx_protocol.handled", default=None
)

#: what handles it, the mail itself, and the bytes for which its client is held to account
Mail = tuple[Callable[[Any], Awaitable[None]], Any, int]

#: what became of a callback: the status it was answered with, or what it raised
Outcome = str | BaseException | None

_FREE = contextlib.nullcontext()


@dataclasses.dataclass(frozen=True, slots=True)
class Info:
    """A broadcast of a further topic, as ``Channel.handle_info`` gets it."""

    topic: str
    event: str
    payload: Any


class Parted(NamedTuple):
    """A channel that has ended and was not told yet; `at_end` is called when it has been."""

    channel: Channel
    reason: Reason
    exception: BaseException | None
    at_end: tuple[Callable[[], None], ...]


class ChannelServer:
    """The server of one topic on one socket; outlives the channels that are joined there."""

    __slots__ = (
        "connection",
        "topic",
        "route",
        "subtopic",
        "channel",
        "join_ref",
        "channel_join_ref",
        "fastlane",
        "write",
        "_throttles",
        "_id",
        "_mailbox",
        "_task",
        "_abandoned",
        "_message",
        "_asked",
        "_closings",
        "_further",
        "_at_end",
        "_handled",
        "_senders",
        "_size",
        "__weakref__",
    )

    def __init__(
        self, connection: Connection, topic: str, route: Route, subtopic: str
    ) -> None:
        self.connection = connection
        self.topic = topic
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
        self._throttles = connection.servers.throttles(route.channel_class)
        self._id: str | None = None
        self._mailbox: deque[Mail] | None = None  # an empty one is 0.7 KiB
        self._task: asyncio.Task[None] | None = None
        self._abandoned: asyncio.Task[None] | None = None
        self._message: Message | None = None  # the frame being handled
        self._size = 0  # bytes of the mail being handled
        self._asked: Channel | None = None  # the channel whose ``join`` runs
        self._closings = 0  # how often the topic was closed
        self._further: dict[str, Further] | None = None
        # what is called when the channel has ended
        self._at_end: dict[Any, Callable[[], None]] | None = None
        self._handled: Broadcast | None = None  # what ``handle_out`` is asked about
        self._senders: frozenset[str] = frozenset()  # who its client was before

    # ------------------------------------------------------------------ mail

    def deliver(self, message: Message, size: int) -> None:
        """Take a frame of the client, of `size` bytes, unless it sends more than it may."""
        if self._throttles is not None and (wait := self._wait(message)):
            return self._refuse_for(wait, message)
        if (
            message.event == JOIN
            and self.channel is not None
            and self._task is not None
        ):
            self._abandon()
        self.connection.backlog.frames += 1
        self.connection.backlog.frame_bytes += size
        self.connection.node.pubsub.traffic.add(self.topic)
        self._put(self._handle_message, message, size)

    def _wait(self, message: Message) -> float:
        """Seconds that the client has to wait before it may send `message`; 0 for now."""
        if self._throttles is None or message.event == LEAVE:
            return 0.0
        return retry_after(self._throttles.of(message.event), time.monotonic())

    def _refuse_for(self, seconds: float, message: Message) -> None:
        self.connection.refuse_for(seconds, message, self.channel_join_ref)
        if self.channel is None and self._task is None:
            self.connection.servers.forget(self)

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        """Take a broadcast that the channel intercepts."""
        self._hold(self._handle_out, self.channel, broadcast)

    def deliver_further(self, channel: Channel, broadcast: Broadcast) -> None:
        """Take a broadcast of a further topic."""
        self._hold(self._handle_info, channel, broadcast)

    def _hold(
        self, handle: Callable[[Any], Awaitable[None]], channel: Any, broadcast: Any
    ) -> None:
        """Have a broadcast wait for the channel; too much of that is more than a client may hold."""
        size = len(memoryview(broadcast.payload))
        self.connection.backlog.held_bytes += size
        self._put(handle, (channel, broadcast), size)
        if self.connection.holds_too_much:
            self.interrupt()
            if self.connection.holds_too_much:
                self.connection.overflowed(self.topic)

    def send_info(self, channel: Channel, message: Any) -> None:
        """Put a message of the application behind the other mail."""
        self._put(self._handle_info, (channel, message))

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What handles the mail, while there is some."""
        return self._task

    def __repr__(self) -> str:
        event = f" handles {shown(self._message.event, 100)}" if self._message else ""
        return f"<ChannelServer {self.topic!r}{event}>"

    def close(self, reason: Reason, exception: BaseException | None = None) -> None:
        """The socket is gone: the channel ends behind the mail that it already has.

        A client that was sent away has no mail any more: what it sent before, joins included, is
        not handled, and its channel ends at once.
        """
        if reason is Reason.DISCONNECTED:
            self._closings += 1  # the join that is under way comes to nothing
            self._drop_mail(joins=True)
            self._end_at_once(reason, exception)
        self._put(self._handle_close, (reason, exception))

    def _put(
        self, handle: Callable[[Any], Awaitable[None]], mail: Any, size: int = 0
    ) -> None:
        if self._mailbox is None:
            self._mailbox = deque()
        self._mailbox.append((handle, mail, size))
        self._start()

    def _start(self) -> None:
        if self._task is None:
            self._task = self.connection.create_task(self._run())

    async def _run(self) -> None:
        task = self._task
        try:
            if self._abandoned is not None:
                await asyncio.wait({self._abandoned}, timeout=self._shutdown_timeout)
                self._abandoned = None
            while self._mailbox and self._task is task:
                handle, mail, size = self._mailbox.popleft()
                self._size = size
                try:
                    await handle(mail)
                except DecodeError as error:
                    self.connection.undecodable(error)
                except CRASHES as error:  # what is behind it is handled all the same
                    if self._task is not task or must_end(error):
                        raise
                    await self._failed(error, mail)
                finally:
                    self._release(mail, size)
                    self._size = 0
        except asyncio.CancelledError:
            # Of a task that is to end nobody wants to know more. It would keep what is raised, that
            # the frames and their payloads, and those the task: until everything is looked through.
            if not is_cancelled():
                raise
        finally:
            if self._task is task:
                self._task = None
                self._mailbox = self._mailbox or None
                if self.channel is None:
                    self.connection.servers.forget(self)

    async def _failed(self, error: BaseException, mail: Any) -> None:
        """The rules around a callback failed: a bug of ours, or of what they call."""
        logger.error("%s: a message was not handled", self.topic, exc_info=error)
        try:
            if self.channel is not None:
                await self._crash(self.channel, error, quiet=True)
            elif isinstance(mail, Message) and mail.event == JOIN:
                self.connection.refuse(mail, Refusal.JOIN_CRASHED, mail.join_ref)
        except Exception:
            logger.exception("%s: nor can its client be told so", self.topic)

    def _release(self, mail: Any, size: int) -> None:
        if isinstance(mail, Message):
            self.connection.backlog.frame_bytes -= size
        else:
            self.connection.backlog.held_bytes -= size

    def _abandon(self) -> None:
        """A second join: what runs is cancelled, the events that wait are dropped.

        Phoenix kills the channel by an exit signal, even in the middle of an event.
        """
        self._drop_mail()
        assert self._task is not None
        self._abandoned, self._task = self._task, None
        self._abandoned.cancel()

    def _drop_mail(self, joins: bool = False) -> None:
        """Drop the events, broadcasts and messages that wait: they are of a channel that is gone.

        Joins and leaves are of the client, and stay unless it is gone too (`joins`).
        """
        kept: deque[Mail] = deque()
        mine = (self._handle_message, self._handle_out, self._handle_info)
        for handle, mail, size in self._mailbox or ():
            is_frame = isinstance(mail, Message)
            stays = is_frame and not joins and mail.event in (JOIN, LEAVE)
            if stays or handle not in mine:
                kept.append((handle, mail, size))
            else:
                self.connection.backlog.frames -= is_frame
                self._release(mail, size)
        self._mailbox = kept

    @property
    def _shutdown_timeout(self) -> float:
        own = self.route.channel_class.shutdown_timeout
        return self.connection.options.shutdown_timeout if own is None else own

    async def finish(self) -> None:
        """Wait for the mailbox to drain; after SHUTDOWN_TIMEOUT cancel what runs.

        A callback that still does not end, or ``terminate`` that takes as long again, is left
        to itself.
        """
        timeout = self._shutdown_timeout
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout)
        if self._task is None:
            return
        self._drop_mail(joins=True)
        ends = (self._handle_close, self._handle_parted)
        ending = [mail for mail in self._mailbox or () if mail[0] in ends]
        self._mailbox = None
        abandoned, self._task = self._task, None
        abandoned.cancel()
        await asyncio.wait({abandoned}, timeout=1)
        for mail in ending:
            self._put(*mail)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout)
            if self._task is not None:
                logger.error(
                    "%s: terminate did not end in %s seconds", self.topic, timeout
                )
                self._task.cancel()

    # ------------------------------------------------------------------ orders

    def close_topic(self) -> None:
        """End the channel at once, and refuse the join that is under way: the topic is closed."""
        self._closings += 1
        self.cut_off(Reason.SHUTDOWN)

    async def ask_again(self) -> None:
        """Ask again whether the client may be here; who may not is cut off at once.

        Whatever the channel is busy with: ``authorize`` may run beside another callback. A join
        that is under way asks again by itself.
        """
        channel = self.channel
        if channel is None:
            return
        try:
            allowed = await self._may_be_here(channel)
        except CRASHES as error:
            if must_end(error):
                raise
            if self.channel is channel:
                self.fail(error)
        else:
            if not allowed and self.channel is channel:
                self._say_unauthorized()
                self.cut_off(Reason.SHUTDOWN)

    def fail(self, error: BaseException) -> None:
        """Nobody knows whether the client may be here: its channel crashes at once."""
        channel = self.channel
        if channel is not None:
            self._say_crashed(channel, error, None)
            self.cut_off(Reason.CRASH, error)

    def cut_off(self, reason: Reason, exception: BaseException | None = None) -> None:
        """End the channel at once, whatever it is busy with.

        Nothing more goes out but ``phx_close`` (``phx_error`` for a crash), and what waits is
        dropped; ``terminate`` is called when the callback that runs has ended.
        """
        if self._end_at_once(reason, exception):
            message = protocol.crashed if reason is Reason.CRASH else protocol.closed
            self.connection.push(message(self.topic, self.join_ref))

    def _end_at_once(self, reason: Reason, exception: BaseException | None) -> bool:
        """End the channel, though a callback of it may run; False when there is none."""
        channel = self.channel
        if channel is None:
            return False
        channel.__phx__.is_cut_off = True
        parted = self._part(channel, reason, exception)
        self._drop_mail()
        for end in parted.at_end:  # the callback that runs may take its time
            end()
        told = parted._replace(at_end=())
        assert self._mailbox is not None
        self._mailbox.appendleft((self._handle_parted, told, 0))
        self._start()
        return True

    # --------------------------------------------------------------- the rules

    async def _handle_message(self, message: Message) -> None:
        self.connection.backlog.frames -= 1
        action = protocol.classify(message, self.channel is not None, self.join_ref)
        if self._size >= SMALL and action is not Action.LEAVE:
            await self._handle_large(message, self._size)
        elif action is Action.DELIVER:
            await self._handle_in(message)
        elif action is Action.JOIN or action is Action.REJOIN:
            await self._join(message)
        elif action is Action.LEAVE:
            await self._leave(message)
        else:
            self.connection.answer(action, message)

    async def _handle_large(self, message: Message, size: int) -> None:
        """One whose payload takes so much memory that not all can be decoded at once."""
        budget = self.connection.backlog.budget
        await budget.take(size)
        try:
            async with room(message.payload):
                if self._is_for_channel(message):
                    await self._handle_undecoded(message, budget)
        finally:
            budget.give_back(size)

    async def _handle_undecoded(self, message: Message, budget: Budget) -> None:
        with budget.charged():
            message = with_payload(message)
        await budget.pause()
        if self._is_for_channel(message):
            handle = self._join if message.event == JOIN else self._handle_in
            await handle(message)
        # what was made of the payload goes away then, which takes time as well
        await budget.pause()

    def _is_for_channel(self, message: Message) -> bool:
        """Whether a message that waited is still one for the channel; else it is answered."""
        if self.connection.is_cut_off:
            return False
        action = protocol.classify(message, self.channel is not None, self.join_ref)
        if action in (Action.DELIVER, Action.JOIN, Action.REJOIN):
            return True
        self.connection.answer(action, message)
        return False

    def _charged(self) -> contextlib.AbstractContextManager[None]:
        """Around what is done with a payload and holds the loop: who sent a large one pays for it."""
        if self._size < SMALL:
            return _FREE
        return self.connection.backlog.budget.charged()

    async def _join(self, message: Message) -> None:
        """``phx_join``. A topic that is joined already: the new reply first, then phx_close."""
        duplicate, old_join_ref = self.channel is not None, self.join_ref
        admission = self.connection.servers.admission
        if duplicate:
            admission.rejoin()
        elif not await admission.enter():
            return self.connection.refuse(
                message, Refusal.TOO_MANY_CHANNELS, message.join_ref
            )
        channel = None
        try:
            await self._end(Reason.DUPLICATE_JOIN)
            if self.connection.is_cut_off:
                return  # while it waited for its place, or for the end of the old channel
            self._id = None
            self.channel_join_ref = protocol.channel_join_ref(message)
            channel = self.route.make(self, self.subtopic)
            status, permanent = await self._admit(channel, message)
        finally:
            if channel is None or channel.__phx__.joined_at is None:
                admission.decided(False)
        if duplicate:
            self.connection.push(protocol.closed(self.topic, old_join_ref))
        if permanent:
            self.connection.push(protocol.closed(self.topic, message.join_ref))
        if status == "ok":
            await self._begin(channel)
        elif status == "error":
            await self._terminate(channel, Reason.SHUTDOWN)

    async def _begin(self, channel: Channel) -> None:
        """What follows the join's reply."""
        if channel.presence is not None:
            await self._callback(channel, channel.presence.enter)
        if self.channel is channel:
            await self._callback(channel, "after_join")

    async def _admit(self, channel: Channel, message: Message) -> tuple[str, bool]:
        """Ask ``join``, subscribe if it says so, and reply: "ok", "error" or "crashed"."""
        started = time.perf_counter()
        asked = self._asked_at()
        decision = await self._decide(channel, self._ask_join(channel, message))
        status, reply, permanent = decision
        signals.channel_joined.emit(
            type(channel),
            channel=channel,
            payload=message.payload,
            duration=time.perf_counter() - started,
            result=status,
        )
        recovery = None
        if status == "ok":
            # a topic that is new to this process waits until the other processes know
            await self.connection.node.ready(self.topic)
            recovery = await self._recover(channel, message)
            while status == "ok" and asked != self._asked_at():
                # a right was taken away meanwhile: it may have been this one
                closings, asked = asked[0], self._asked_at()
                again = self._ask_whether_still(channel, decision, closings)
                status, reply, permanent = await self._decide(channel, again)
                # ``join`` has returned: a channel that is refused now is terminated
                if status != "ok":
                    status = "error"
                else:
                    recovery = await self._recover(channel, message)
        if status == "ok":
            self.channel, self.join_ref = channel, message.join_ref
            channel.__phx__.joined_at = time.monotonic()
            self.connection.servers.admission.decided(True)
            self.connection.node.pubsub.subscribe(self.topic, self)
            if recovery is not None:
                reply = recovery.add_to(reply, self.id)
        word = "ok" if status == "ok" else "error"
        try:
            self.connection.push(
                Reply(message.join_ref, message.ref, self.topic, word, reply)
            )
        except Exception as error:
            logger.exception("%s: the reply of join cannot be sent", self.topic)
            self.connection.refuse(message, Refusal.JOIN_CRASHED, message.join_ref)
            await self._end(Reason.CRASH, error)
            return "crashed", False
        if status == "ok" and recovery is not None:
            await self._replay(channel, recovery)
        return status, permanent

    def _asked_at(self) -> tuple[int, int]:
        """The state of rights and of the topic for which an answer about a join holds."""
        return self._closings, self.connection.rights.generation

    async def _recover(self, channel: Channel, message: Message) -> Recovery | None:
        """What the client missed. Nothing comes live between this and the subscription."""
        self._senders = frozenset()
        if channel.history is None:
            return None
        request = RecoveryRequest.of(message.payload)
        self._senders = request.senders
        self.fastlane = self.connection.fastlane(type(channel), request.is_made)
        streams = self.connection.node.part(Streams)
        return await streams.catch_up(self.topic, channel.history, request)

    async def _replay(self, channel: Channel, recovery: Recovery) -> None:
        """What was missed, as it would have come; what comes live meanwhile is held if need be.

        It is pushed, with a join_ref: a client that has given this join up drops it.
        """
        for broadcast in recovery.broadcasts(self.topic):
            if channel is not self.channel:
                return
            if broadcast.event in channel.__phx_tables__.intercepts:
                await self._replay_out(channel, broadcast)
            else:
                refs = self.channel_join_ref, self._ref_of(broadcast)
                event, payload = broadcast.event, broadcast.payload
                try:
                    self.connection.push(Message(*refs, self.topic, event, payload))
                except Exception as error:  # it would fail at every rejoin
                    self._say_withheld(broadcast, error)

    async def _replay_out(self, channel: Channel, broadcast: Broadcast) -> None:
        """A broadcast on which ``handle_out`` crashes is withheld: it would crash every rejoin."""
        handle_out = channel.__phx_tables__.callbacks["handle_out"]
        try:
            with self._handling(broadcast):
                await handle_out(channel, broadcast.event, decode_payload(broadcast))
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception("%s: %r is not replayed", self.topic, broadcast.event)

    async def _ask_join(
        self, channel: Channel, message: Message
    ) -> tuple[str, Any, bool]:
        """Ask ``authorize`` and ``join``: status, reply, and whether a refusal is for good."""
        self._asked = channel
        try:
            callbacks.close_stale_connections_if_due()
            if not await self._may_be_here(channel):
                return self._unauthorized()
            own = RecoveryRequest.remove_from(message.payload, channel.history)
            with self._charged():
                payload = channel.__phx_tables__.join.decode(own)
            answer = parse_answer(
                await channel.__phx_tables__.join.call(channel, payload)
            )
            if answer is None or answer[0] not in ("ok", "error"):
                raise TypeError(
                    f'join must return "ok" or "error", alone or with a reply, not {shown(answer, 100)}'
                )
            return (*answer, False)
        finally:
            self._asked = None

    async def _ask_whether_still(
        self, channel: Channel, decision: tuple[str, Any, bool], closings: int
    ) -> tuple[str, Any, bool]:
        """`decision` once more, after an order that came while it was made."""
        if closings != self._closings:
            refusals[Refusal.TOPIC_CLOSED] += 1
            return "error", {"reason": Refusal.TOPIC_CLOSED}, True
        return decision if await self._may_be_here(channel) else self._unauthorized()

    def _unauthorized(self) -> tuple[str, Any, bool]:
        refusals[Refusal.UNAUTHORIZED] += 1
        return "refused", {"reason": Refusal.UNAUTHORIZED}, False

    async def _decide(
        self, channel: Channel, answer: Awaitable[tuple[str, Any, bool]]
    ) -> tuple[str, Any, bool]:
        """The answer about a join, whatever it raises."""
        try:
            return await answer
        except InvalidPayload as invalid:
            refusals[Refusal.INVALID_PAYLOAD] += 1
            reason = {"reason": Refusal.INVALID_PAYLOAD, **invalid.details}
            return "refused", reason, False
        except JoinDenied as denied:
            return "error", denied.reply, denied.permanent
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception(
                "%s: %s.join crashed",
                self.topic,
                type(channel).__name__,
                extra={"cause": type(channel)},
            )
            refusals[Refusal.JOIN_CRASHED] += 1
            self._tell_crashed(channel, error, JOIN)
            return "crashed", {"reason": Refusal.JOIN_CRASHED}, False

    async def _may_be_here(self, channel: Channel) -> bool:
        """What the class asks of the user, and then what ``authorize`` says."""
        await self.connection.rights.are_current()
        requirement = channel.__phx_tables__.requirement
        if requirement and not await requirement.is_met_by(self.connection.socket.user):
            return False
        answer = await channel.__phx_tables__.callbacks["authorize"](channel)
        if not isinstance(answer, bool):
            raise TypeError(
                f"authorize must return True or False, not {shown(answer, 100)}"
            )
        return answer

    async def _leave(self, message: Message) -> None:
        """``phx_leave``: the reply, ``phx_close``, then terminate."""
        join_ref = self.join_ref
        self.connection.push(protocol.ok(message, self.channel_join_ref))
        self.connection.push(protocol.closed(self.topic, join_ref))
        await self._end(Reason.LEFT)

    async def _handle_in(self, message: Message) -> None:
        """An event of the client."""
        channel, event = self.channel, message.event
        assert channel is not None
        self._message = message
        handler = (
            channel.__phx_tables__.events.get(event) if isinstance(event, str) else None
        )
        is_heard = signals.channel_handled_in.is_heard(type(channel))
        started = time.perf_counter() if is_heard else 0.0
        try:
            if handler is None:
                payload = message.payload
                outcome = await self._callback(channel, "handle_in", event, payload)
            else:
                outcome = await self._handle_event(channel, handler, message)
        finally:
            self._message = None
        if is_heard:
            took = time.perf_counter() - started
            self._tell_handled_in(channel, message, outcome, took)

    async def _handle_event(
        self, channel: Channel, handler: Handler, message: Message
    ) -> Outcome:
        """An event that a method was written for."""
        try:
            call = handler.call
            if self._size < SMALL:
                payload = handler.decode(message.payload)
            else:
                with self.connection.backlog.budget.charged():
                    payload = handler.decode(message.payload)
        except InvalidPayload as invalid:
            self.connection.refuse(
                message,
                Refusal.INVALID_PAYLOAD,
                self.channel_join_ref,
                **invalid.details,
            )
            return "error"
        except Exception as error:
            await self._crash(channel, error)
            return error
        return await self._callback(channel, call, payload)

    async def reauthorize(self, channel: Channel) -> bool:
        """Ask again, for the user as the database has it now; who may not ends its channel."""
        self.connection.rights.have_changed()
        allowed = await self._may_be_here(channel)
        if not allowed:
            self._say_unauthorized()
            # the callback that runs may take its time
            self.connection.node.pubsub.unsubscribe(self.topic, self)
            await channel.stop(Reason.SHUTDOWN)
        return allowed

    def _say_unauthorized(self) -> None:
        refusals[Refusal.UNAUTHORIZED] += 1
        logger.warning("%s: closed, its client may not be there", self.topic)

    async def _handle_out(self, mail: tuple[Channel, Broadcast]) -> None:
        channel, broadcast = mail
        if channel is not self.channel:
            return
        if broadcast.event not in channel.__phx_tables__.intercepts:
            return self._write(broadcast)
        # decoded for each receiver: what one handle_out changes no other one sees
        async with room(broadcast.payload):
            payload = decode_payload(broadcast)
            with self._handling(broadcast):
                await self._callback(channel, "handle_out", broadcast.event, payload)

    @contextlib.contextmanager
    def _handling(self, broadcast: Broadcast) -> Iterator[None]:
        self._handled = broadcast
        token = _handled.set(broadcast)
        try:
            yield
        finally:
            _handled.reset(token)
            self._handled = None

    def _write(self, broadcast: Broadcast) -> None:
        """To this client alone, as the fastlane would have sent it to all."""
        try:
            frame = self.fastlane.frame(broadcast)
            self.write(self.connection.transport.prepare(frame))
        except Exception as error:
            self._say_withheld(broadcast, error)

    def _say_withheld(self, broadcast: Broadcast, error: Exception) -> None:
        # a serializer says what it cannot carry; anything else is a bug somewhere
        logger.error(
            "%s: %.100r cannot be sent: %s",
            self.topic,
            broadcast.event,
            describe(error),
            exc_info=None if isinstance(error, EncodeError) else error,
        )

    def interrupt(self) -> None:
        """Something is missing in what the client got: it has to join again.

        Nothing more comes live from now on, and the channel ends behind its mail; broadcasts
        that wait are dropped, its history has them. Nothing happens to one that has no history.
        """
        if self.route.channel_class.history is None:
            return
        self.connection.node.pubsub.unsubscribe(self.topic, self)
        self._drop_broadcasts()
        self._put(self._handle_interrupt, self.channel)

    def _drop_broadcasts(self) -> None:
        kept: deque[Mail] = deque()
        for entry in self._mailbox or ():
            handle, mail, size = entry
            if handle == self._handle_out:
                self._release(mail, size)
            else:
                kept.append(entry)
        self._mailbox = kept

    async def _handle_interrupt(self, channel: Channel | None) -> None:
        if channel is not None and channel is self.channel:
            refusals[Refusal.HISTORY_LOST] += 1
            join_ref = self.join_ref
            await self._end(Reason.SHUTDOWN)
            lost = protocol.crashed(self.topic, join_ref, Refusal.HISTORY_LOST)
            self.connection.push(lost)

    async def _handle_info(self, mail: tuple[Channel, Any]) -> None:
        channel, message = mail
        if channel is self.channel:
            if isinstance(message, Broadcast):
                message = Info(message.topic, message.event, decode_payload(message))
            await self._callback(channel, "handle_info", message)

    async def _handle_close(self, mail: tuple[Reason, BaseException | None]) -> None:
        reason, exception = mail
        await self._end(reason, exception)

    async def _callback(self, channel: Channel, callback: Any, *args: Any) -> Outcome:
        """Call into user code, answer with what it returns, and bear what it raises."""
        call = (
            channel.__phx_tables__.callbacks[callback]
            if isinstance(callback, str)
            else callback
        )
        message = self._message
        task = self._task
        outcome: Outcome = None
        try:
            callbacks.close_stale_connections_if_due()
            answer = await call(channel, *args)
            if answer is None or message is None:
                pass
            elif self._task is task and self.channel is channel:
                outcome, payload = parse_answer(answer) or ("ok", {})
                if self._size < SMALL:
                    self.connection.push(self._reply(message.ref, outcome, payload))
                else:
                    with self.connection.backlog.budget.charged():
                        self.connection.push(self._reply(message.ref, outcome, payload))
        except asyncio.CancelledError as error:
            if self._task is not task or is_cancelled():
                raise
            await self._crash(channel, error)  # it awaited something that was cancelled
            return error
        except Exception as error:
            await self._crash(channel, error)
            return error
        if channel.__phx__.stop_reason is not None:
            await self._stop_if_wanted(channel)
        return outcome

    def stop_soon(self, channel: Channel) -> None:
        """Its code wants `channel` to end: behind the callback that runs, at once if none does."""
        if self._task is None and self.channel is channel:
            self._put(self._stop_if_wanted, channel)

    async def _stop_if_wanted(self, channel: Channel) -> None:
        if channel.__phx__.stop_reason is not None and self.channel is channel:
            await self._stop(channel, channel.__phx__.stop_reason)

    async def _stop(self, channel: Channel, reason: str) -> None:
        if reason not in (Reason.NORMAL, Reason.SHUTDOWN):
            error = RuntimeError(f"stopped with the reason {shown(reason)}")
            return await self._crash(channel, error, quiet=True)
        self.connection.push(protocol.closed(self.topic, self.join_ref))
        await self._end(Reason(reason))

    async def _crash(
        self, channel: Channel, error: BaseException, quiet: bool = False
    ) -> None:
        """A callback raised: terminate, then ``phx_error``; everybody else is unharmed."""
        if self.channel is not channel:
            return
        event = self._message.event if self._message else None
        self._say_crashed(channel, error, event, quiet)
        join_ref = self.join_ref
        await self._end(Reason.CRASH, error)
        self.connection.push(protocol.crashed(self.topic, join_ref))
        callbacks.close_stale_connections()  # the crash may have come from a dead one

    def _say_crashed(
        self, channel: Channel, error: BaseException, event: Any, quiet: bool = False
    ) -> None:
        refusals[Refusal.CHANNEL_CRASH] += 1
        if quiet:
            logger.error("%s: %s", self.topic, error)
        else:
            logger.error(
                "%s: %s crashed on %.100r",
                self.topic,
                type(channel).__name__,
                event,
                exc_info=error,
                extra={"cause": type(channel)},
            )
        self._tell_crashed(channel, error, event)

    async def _end(
        self, reason: Reason, exception: BaseException | None = None
    ) -> None:
        """The channel, if one is joined, is no more: unsubscribed first, then told."""
        channel = self.channel
        if channel is not None:
            await self._handle_parted(self._part(channel, reason, exception))

    def _part(
        self, channel: Channel, reason: Reason, exception: BaseException | None
    ) -> Parted:
        """Nothing comes for `channel` from here on, and it is not the channel of the topic."""
        self.channel = None
        if reason is not Reason.DUPLICATE_JOIN:  # which has its place
            self.connection.servers.admission.left()
        self.connection.node.pubsub.unsubscribe(self.topic, self)
        for topic in list(self._further or ()):
            self.unsubscribe(channel, topic)
        at_end, self._at_end = self._at_end, None
        return Parted(channel, reason, exception, tuple((at_end or {}).values()))

    async def _handle_parted(self, parted: Parted) -> None:
        """Tell a channel that it has ended, and everybody who wants to know."""
        channel, reason, exception, at_end = parted
        channel.exception = exception
        try:
            await self._terminate(channel, reason)
        finally:
            for end in at_end:
                end()
            self._tell_left(channel, reason, exception)

    async def _terminate(self, channel: Channel, reason: Reason) -> None:
        try:
            callbacks.close_stale_connections_if_due()
            await channel.__phx_tables__.callbacks["terminate"](channel, reason)
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception(
                "%s: %s.terminate crashed", self.topic, type(channel).__name__
            )

    # ------------------------------------------------- what a channel asks for

    def push(self, channel: Channel, event: str, payload: Any) -> None:
        self.must_have_joined(channel, "push")
        if channel.__phx__.is_cut_off:
            return
        # what handle_out makes of a kept broadcast has its offset, whatever it is called
        handled = _handled.get()
        is_handled = handled is not None and handled is self._handled
        ref = self._ref_of(handled) if handled and is_handled else None
        message = Message(self.channel_join_ref, ref, self.topic, event, payload)
        try:
            self.connection.push(message)
        except EncodeError as error:
            # a binary broadcast of somebody else ends no channel of a client with V1
            if not (is_handled and isinstance(payload, bytes)):
                raise
            logger.error(
                "%s: %.100r cannot be sent to one: %s", self.topic, event, error
            )

    def _ref_of(self, broadcast: Broadcast) -> str | None:
        """The offset of a kept broadcast, for a client that said that it knows what it is."""
        return broadcast.offset if self.fastlane.offsets else None

    async def broadcast(
        self, channel: Channel, event: str, payload: Any, from_self: bool = False
    ) -> None:
        self.must_have_joined(channel, "broadcast")
        with self._charged():
            raw = json.encode_payload(payload)
        now = time.time()
        broadcast = Broadcast(self.topic, event, raw, None, now)
        history = history_of(self.topic)
        sender = self if from_self else None
        await self.connection.node.pubsub.broadcast(broadcast, history, sender)

    def must_have_joined(self, channel: Channel, what: str) -> None:
        if channel is self._asked:
            raise RuntimeError(
                f"{what} is not possible before the join: do it in after_join"
            )

    def reply_ref(self, channel: Channel) -> ReplyRef:
        message = self._message
        if message is None or self.channel is not channel:
            raise RuntimeError(
                "reply_ref() is for a channel that handles an event of its client"
            )
        if message.ref is None:
            raise RuntimeError(
                f"the event {shown(message.event, 100)} came without a ref: no reply can reach it"
            )
        node = self.connection.node.pubsub.expect_reply(self)
        return ReplyRef(node, self.id, self.topic, self.channel_join_ref, message.ref)

    def reply(self, ref: ReplyRef, status: str, payload: Any) -> None:
        """Answer an event later; a reply to a channel that has ended is lost, as in Phoenix."""
        if self.channel is not None and self._id == ref.channel_id:
            self.connection.push(
                Reply(ref.join_ref, ref.ref, self.topic, status, payload)
            )

    async def subscribe(self, channel: Channel, topic: str) -> None:
        await self.connection.node.ready(topic)
        if self.channel is channel:
            self._further = self._further or {}
            if topic not in self._further:
                self._further[topic] = Further(self, channel)
                self.connection.node.pubsub.subscribe(topic, self._further[topic])

    def unsubscribe(self, channel: Channel, topic: str) -> None:
        further = (self._further or {}).pop(topic, None)
        if further is not None:
            self.connection.node.pubsub.unsubscribe(topic, further)

    def at_end(self, channel: Channel, key: Any, end: Callable[[], None]) -> bool:
        """Have `end` called when `channel` has ended, once for a `key`; False when it has."""
        if self.channel is not channel:
            return False
        self._at_end = self._at_end or {}
        self._at_end[key] = end
        return True

    def is_known_as(self, channel_id: str) -> bool:
        """Whether its client has sent as `channel_id`, now or before it joined again."""
        return self._id == channel_id or channel_id in self._senders

    @property
    def id(self) -> str:
        """The name of the joined channel, unique over all processes."""
        if self._id is None:
            self._id = self.connection.node.new_id()
        return self._id

    def _reply(self, ref: Any, status: str, payload: Any) -> Reply:
        return Reply(self.channel_join_ref, ref, self.topic, status, payload)

    # -------------------------------------------------------------- the signals

    def _tell_handled_in(
        self, channel: Channel, message: Message, outcome: Outcome, seconds: float
    ) -> None:
        raised = isinstance(outcome, BaseException)
        signals.channel_handled_in.emit(
            type(channel),
            channel=channel,
            event=message.event,
            payload=message.payload,
            ref=message.ref,
            duration=seconds,
            status=None if raised else outcome,
            exception=outcome if raised else None,
        )

    def _tell_left(
        self, channel: Channel, reason: Reason, exception: BaseException | None
    ) -> None:
        signals.channel_left.emit(
            type(channel),
            channel=channel,
            reason=reason,
            exception=exception,
            duration=time.monotonic() - (channel.__phx__.joined_at or 0.0),
        )

    def _tell_crashed(self, channel: Channel, error: BaseException, event: Any) -> None:
        signals.channel_crashed.emit(
            type(channel), channel=channel, exception=error, event=event
        )


class Further:
    """The subscription of a channel to one further topic."""

    __slots__ = ("server", "channel")

    fastlane = None

    def __init__(self, server: ChannelServer, channel: Channel) -> None:
        self.server = server
        self.channel = channel

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self.server.deliver_further(self.channel, broadcast)


def decode_payload(broadcast: Broadcast) -> Any:
    payload = broadcast.payload
    return payload if isinstance(payload, bytes) else json.decode(bytes(payload))
