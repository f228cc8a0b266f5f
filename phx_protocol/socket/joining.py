"""Joining: one join, from the check whether the client may join to the reply."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import signals
from ..concurrency import callbacks
from ..concurrency.tasks import CRASHES, must_end
from ..exceptions import InvalidPayload, JoinDenied
from ..history import History
from ..history.recovery import Recovery, RecoveryRequest, seconds_of
from ..history.streams import Streams
from ..logs import get_logger
from ..logs.printable import shown
from ..wire.messages import JOIN, Message, Reply
from ..wire.reasons import Reason, Refusal
from .authorization import is_authorized
from .channel import Channel
from .endings import GONE, emit_crashed, end
from .events import parse_answer
from .refusals import refusals
from .replay import replay

if TYPE_CHECKING:
    from .server import ChannelServer

#: shared, because an empty set for each channel would take 0.2 KiB
NO_IDS: frozenset[str] = frozenset()

logger = get_logger("phx_protocol.channel")


class Decision(NamedTuple):
    """The result of a join: "ok", "error", "refused" or "crashed", and the reply to its client."""

    status: str
    reply: Any
    #: True if the client must not try to join again
    is_permanent: bool = False


#: how often the topic was closed and rights have changed: a decision counts only while both stay the same
Validity = tuple[int, int]


class Joining:
    """Decides whether the client of a new channel may join, subscribes the channel, and replies."""

    __slots__ = ("server", "channel", "message", "_recovery")

    def __init__(
        self, server: ChannelServer, channel: Channel, message: Message
    ) -> None:
        self.server = server
        self.channel = channel
        self.message = message
        self._recovery: Recovery | None = None  # the broadcasts that the client missed

    async def run(self) -> Decision:
        """Decide, subscribe the channel if the client may join, and reply."""
        valid_for = self._validity()
        connection = self.server.connection
        if connection.socket.__phx_takes_tokens__:
            await connection.renewal.check_join(self.message.payload)
        decision = await self._ask_first()
        if decision.status == "ok":
            # if the topic is new to this process, wait until broadcasts of other processes arrive
            await self.server.connection.node.ready(self.server.topic)
            decision = await self._recover(decision)
            decision = await self._ask_until_valid(decision, valid_for)
        reply = decision.reply
        if decision.status == "ok":
            self.server.begin(self.channel, self.message)
            if self._recovery is not None:
                reply = self._recovery.add_to(reply, self.channel.__phx__.id)
        if not await self._send(decision.status, reply):
            return Decision("crashed", None)
        if decision.status == "ok" and self._recovery is not None:
            await replay(self.server, self.channel, self._recovery)
        return decision

    def _validity(self) -> Validity:
        return self.server.closings, self.server.connection.rights.generation

    async def _send(self, status: str, reply: Any) -> bool:
        """Send the reply of the join. If it cannot be sent, end the channel and return False."""
        server, message = self.server, self.message
        word = "ok" if status == "ok" else "error"
        refs = message.join_ref, message.ref
        try:
            server.connection.push(Reply(*refs, server.topic, word, reply))
            return True
        except Exception as error:
            logger.exception("%s: the reply of join cannot be sent", server.topic)
            refused = Refusal.JOIN_CRASHED
            server.connection.refuse(message, refused, message.join_ref)
            await end(server, GONE, Reason.CRASH, error)
            return False

    # ------------------------------------------------------------- the decision

    async def _ask_first(self) -> Decision:
        started = time.perf_counter()
        decision = await self._safely(self._ask())
        signals.channel_joined.emit(
            type(self.channel),
            channel=self.channel,
            payload=self.message.payload,
            duration=time.perf_counter() - started,
            result=decision.status,
        )
        return decision

    async def _ask(self) -> Decision:
        """Call ``authorize`` and ``join``."""
        channel, payload = self.channel, self.message.payload
        membership, join = channel.__phx__, channel.__phx_tables__.join
        membership.is_joining = True
        try:
            callbacks.close_stale_connections_if_due()
            if not await is_authorized(channel):
                return _unauthorized()
            own = RecoveryRequest.remove_from(payload, channel.history)
            with self.server.charged():
                payload = join.decode(own)
            answer = parse_answer(await join.call(channel, payload))
            if answer is None or answer[0] not in ("ok", "error"):
                raise TypeError(
                    f'join must return "ok" or "error", alone or with a reply, not {shown(answer, 100)}'
                )
            return Decision(*answer)
        finally:
            membership.is_joining = False

    async def _ask_until_valid(
        self, decision: Decision, made_for: Validity
    ) -> Decision:
        """Check again, as long as rights have changed or the topic was closed meanwhile."""
        while decision.status == "ok" and made_for != self._validity():
            closings, made_for = made_for[0], self._validity()
            decision = await self._safely(self._ask_again(decision, closings))
            # ``join`` has returned, so ``terminate`` must be called if the client is refused now
            if decision.status != "ok":
                return decision._replace(status="error")
            decision = await self._recover(decision)
        return decision

    async def _ask_again(self, decision: Decision, closings: int) -> Decision:
        if closings != self.server.closings:
            refusals.count(Refusal.TOPIC_CLOSED)
            return Decision("error", {"reason": Refusal.TOPIC_CLOSED}, True)
        return decision if await is_authorized(self.channel) else _unauthorized()

    async def _safely(self, answer: Awaitable[Decision]) -> Decision:
        """Return a decision also if ``authorize`` or ``join`` raises an error."""
        try:
            return await answer
        except InvalidPayload as invalid:
            refusals.count(Refusal.INVALID_PAYLOAD)
            reason = {"reason": Refusal.INVALID_PAYLOAD, **invalid.details}
            return Decision("refused", reason)
        except JoinDenied as denied:
            return Decision("error", denied.reply, denied.permanent)
        except CRASHES as error:
            if must_end(error):
                raise
            kind = type(self.channel)
            logger.exception(
                "%s: %s.join crashed",
                self.server.topic,
                kind.__name__,
                extra={"cause": kind},
            )
            refusals.count(Refusal.JOIN_CRASHED)
            emit_crashed(self.channel, error, JOIN)
            return Decision("crashed", {"reason": Refusal.JOIN_CRASHED})

    async def _recover(self, decision: Decision) -> Decision:
        """Look up what the client missed. No broadcast is delivered between this and the subscription.

        Return the `decision`, or another one if ``rewind_from`` raises an error.
        """
        self.server.previous_ids = NO_IDS
        if self.channel.history is None:
            return decision
        decision = await self._safely(self._look_up(decision, self.channel.history))
        # ``join`` has returned, so ``terminate`` must be called if the client is refused now
        is_ok = decision.status == "ok"
        return decision if is_ok else decision._replace(status="error")

    async def _look_up(self, decision: Decision, history: History) -> Decision:
        server, channel = self.server, self.channel
        request = RecoveryRequest.of(self.message.payload)
        server.previous_ids = request.senders
        server.fastlane = server.connection.fastlane(type(channel), request.is_made)
        since = await self._since(history, request)
        streams = server.connection.node.part(Streams, server.topic)
        found = await streams.catch_up(server.topic, history, request, since)
        self._recovery = found
        return decision

    async def _since(self, history: History, request: RecoveryRequest) -> float:
        """Return from which time on the client may get what is kept, in seconds of the epoch."""
        channel = self.channel
        rewind_from = channel.__phx_tables__.callbacks["rewind_from"]
        may_get_some = request.position is not None or history.rewind
        if rewind_from is Channel.rewind_from or not may_get_some:
            return -math.inf
        return seconds_of(await rewind_from(channel, channel.socket.user))


def _unauthorized() -> Decision:
    refusals.count(Refusal.UNAUTHORIZED)
    return Decision("refused", {"reason": Refusal.UNAUTHORIZED})
