"""Membership: what the library knows about one channel, and what the channel can ask of its server."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import shown
from ..pubsub.replies import ReplyRef
from ..wire import json
from ..wire.messages import Broadcast, Message
from ..wire.reasons import Reason

if TYPE_CHECKING:
    from .server import ChannelServer

logger = get_logger("phx_protocol.channel")

# the broadcast for which ``handle_out`` runs in this context
_handled: ContextVar[Broadcast | None] = ContextVar(
    "phx_protocol.handled", default=None
)


class Membership:
    """One channel on its topic, from its join on. It is the channel's ``__phx__``.

    The server of the topic lives longer: it may have a new channel already. So calls of a channel
    that has ended must not reach that one.
    """

    __slots__ = (
        "server",
        "joined_at",
        "is_joining",
        "is_cut_off",
        "stop_reason",
        "_id",
        "_handled",
        "_subscriptions",
        "_on_end",
    )

    def __init__(self, server: ChannelServer) -> None:
        self.server = server
        self.joined_at: float | None = None
        self.is_joining = False  # True while ``join`` runs
        self.is_cut_off = False  # True if none of its pushes are sent any more
        self.stop_reason: str | None = (
            None  # the reason with which its own code has called ``stop``
        )
        self._id: str | None = None
        self._handled: Broadcast | None = (
            None  # the broadcast for which ``handle_out`` runs
        )
        self._subscriptions: dict[str, TopicSubscription] | None = None
        # called when the channel has ended
        self._on_end: dict[Any, Callable[[Reason], None]] | None = None

    @property
    def id(self) -> str:
        """The id of the channel, unique over all processes."""
        if self._id is None:
            self._id = self.server.connection.node.new_id()
        return self._id

    def has_id(self, id: str) -> bool:
        """Return True if `id` is the id of the channel; False if it has none yet."""
        return self._id == id

    @property
    def is_current(self) -> bool:
        """True if the channel is joined and has not ended."""
        channel = self.server.channel
        return channel is not None and channel.__phx__ is self

    def must_have_joined(self, what: str) -> None:
        """Raise RuntimeError while ``join`` runs: its reply must reach the client first."""
        if self.is_joining:
            raise RuntimeError(
                f"{what} is not possible before the join: do it in after_join"
            )

    # ------------------------------------------------------------------- pushes

    def push(self, event: str, payload: Any) -> None:
        """Send an event to the client. Raises EncodeError, RuntimeError."""
        self.must_have_joined("push")
        if self.is_cut_off:
            return
        server = self.server
        # a push of handle_out for a kept broadcast carries its offset, even with another event
        handled = _handled.get()
        is_handled = handled is not None and handled is self._handled
        ref = server.ref_of(handled) if handled and is_handled else None
        message = Message(server.channel_join_ref, ref, server.topic, event, payload)
        try:
            with server.charged():
                server.connection.push(message)
        except EncodeError as error:
            # a binary broadcast of another sender must not end the channel of a client with V1
            if not (is_handled and isinstance(payload, bytes)):
                raise
            logger.error(
                "%s: %.100r cannot be sent to one: %s", server.topic, event, error
            )

    @contextlib.contextmanager
    def handling(self, broadcast: Broadcast) -> Iterator[None]:
        """Let pushes of ``handle_out`` in the ``with`` block carry the offset of `broadcast`."""
        self._handled = broadcast
        token = _handled.set(broadcast)
        try:
            yield
        finally:
            _handled.reset(token)
            self._handled = None

    async def broadcast(
        self, event: str, payload: Any, from_self: bool = False
    ) -> None:
        """Send an event to all subscribers of the topic. Raises EncodeError, RuntimeError."""
        self.must_have_joined("broadcast")
        server = self.server
        with server.charged():
            raw = json.encode_payload(payload)
        broadcast = Broadcast(server.topic, event, raw, None, time.time())
        sender = server if from_self else None
        with server.paying():
            await server.connection.node.pubsub.broadcast(
                broadcast, server.history, sender
            )

    def reply_ref(self) -> ReplyRef:
        """Return a reference to the event that is being handled. Raises RuntimeError."""
        server = self.server
        message = server.message
        if message is None or not self.is_current:
            raise RuntimeError(
                "reply_ref() is for a channel that handles an event of its client"
            )
        if message.ref is None:
            raise RuntimeError(
                f"the event {shown(message.event, 100)} came without a ref: no reply can reach it"
            )
        node = server.connection.node.pubsub.expect_reply(server)
        ref = message.ref
        return ReplyRef(node, self.id, server.topic, server.channel_join_ref, ref)

    # ------------------------------------------------------------- other topics

    async def subscribe(self, topic: str) -> None:
        """Let ``handle_info`` get the broadcasts of `topic`, until the channel ends."""
        node = self.server.connection.node
        await node.ready(topic)
        if self.is_current:
            self._subscriptions = self._subscriptions or {}
            if topic not in self._subscriptions:
                self._subscriptions[topic] = TopicSubscription(self)
                node.pubsub.subscribe(topic, self._subscriptions[topic])

    def unsubscribe(self, topic: str) -> None:
        """Undo ``subscribe``."""
        subscription = (self._subscriptions or {}).pop(topic, None)
        if subscription is not None:
            self.server.connection.node.pubsub.unsubscribe(topic, subscription)

    # ------------------------------------------------------------------ the end

    def stop(self, reason: str) -> None:
        """End the channel after the running callback, or at once if none runs."""
        self.stop_reason = reason
        if self.is_current:
            self.server.stop_soon(self)

    def on_end(self, key: Any, call: Callable[[Reason], None]) -> bool:
        """Call `call` with the reason when the channel has ended, one for each `key`.

        Return False if it has ended already.
        """
        if not self.is_current:
            return False
        self._on_end = self._on_end or {}
        self._on_end[key] = call
        return True

    def unsubscribe_all(self) -> None:
        """End the subscriptions of a channel that has ended."""
        for topic in list(self._subscriptions or ()):
            self.unsubscribe(topic)

    def call_on_end(self, reason: Reason) -> None:
        """Call the functions that ``on_end`` has collected, each once."""
        calls, self._on_end = self._on_end, None
        for call in (calls or {}).values():
            call(reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Info:
    """A broadcast of another topic, as ``Channel.handle_info`` gets it."""

    topic: str
    event: str
    payload: Any


class TopicSubscription:
    """The subscription of a channel to another topic."""

    __slots__ = ("_membership",)

    fastlane = None

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self._membership.server.deliver_info(self._membership, broadcast)
