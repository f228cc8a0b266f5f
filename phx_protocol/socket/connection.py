"""Connection: the machinery behind a Socket, for any transport."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .. import signals
from ..auth.credentials import Claim
from ..auth.permissions import Source
from ..auth.tabs import Tab
from ..auth.users import key_of, username_of
from ..concurrency.tasks import CRASHES, begin, must_end
from ..conf import options
from ..exceptions import DecodeError
from ..logs import get_logger
from ..pubsub.registry import Fastlane
from ..wire import protocol
from ..wire.messages import (
    ACCESS_TOKEN,
    CONNECTION_ID,
    HEARTBEAT,
    HEARTBEAT_TOPIC,
    JOIN,
    LEAVE,
    Frame,
    Message,
    Reply,
)
from ..wire.protocol import Action
from ..wire.reasons import CloseCode, Reason, Refusal
from ..wire.serializers import LARGE_FRAME, head_decoder
from .authorization import ask_again, fail
from .backlog import Backlog
from .channel import Channel
from .ended import CLOSED, Ended
from .id_subscription import IdSubscription
from .lengths import lengths_of
from .mailbox import finish
from .refusals import refusals
from .renewal import Renewal
from .routes import routes_of
from .server import ChannelServer
from .servers import ChannelServers
from .transport import Transport

if TYPE_CHECKING:
    from .opening import Opening

logger = get_logger("phx_protocol.socket")

#: seconds after which it looks at the clock again
LONGEST_TIMER = 600.0


class Connection:
    """One open connection: it passes the frames of its client to the channels, until its transport ends.

    It keeps nothing in the user's Socket: all names there belong to the user.
    """

    __slots__ = (
        "socket",
        "serializer",
        "transport",
        "node",
        "options",
        "opened_at",
        "rights",
        "servers",
        "backlog",
        "is_cut_off",
        "_limits",
        "_decode",
        "_context",
        "_id",
        "_key",
        "_expiry",
        "_renewal",
    )

    def __init__(self, opening: Opening, transport: Transport) -> None:
        self.socket = socket = opening.socket
        self.serializer = opening.serializer
        self.transport = transport
        self.node = opening.node
        self.options = chosen = options(type(socket))
        self.opened_at = time.time()
        self.rights = opening.rights
        self.servers = ChannelServers(chosen)
        self.backlog = Backlog()
        self.is_cut_off = (
            False  # True after a command: no more messages of its client are handled
        )
        self._limits = lengths_of(chosen)
        self._decode = head_decoder(self.serializer)
        self._context = contextvars.copy_context()
        # None if the socket has no id
        self._id: IdSubscription | None = IdSubscription(self, opening.missed)
        self._key = opening.known_key
        self._expiry: asyncio.TimerHandle | None = None
        self._renewal: Renewal | None = None
        socket.__phx__ = self
        if self.rights.expires_at is not None:
            self.expire_at(self.rights.expires_at)

    def __repr__(self) -> str:
        return f"<Connection of a {type(self.socket).__name__}>"

    # ------------------------------------------------------------------ frames

    def handle_in(self, frame: Frame) -> None:
        """Answer one frame of the client, or pass it to the server of its topic. It never waits.

        Raises DecodeError for a frame that is not of this version.
        """
        message = self._decode(frame)
        topic = message.topic
        # a short frame has no long parts
        if len(frame) > self._limits.shortest:
            if refusal := self._limits.too_long(message):
                return self.refuse(message, refusal)
        if message.event == HEARTBEAT and topic == HEARTBEAT_TOPIC:
            # before all that waits: phoenix.js reconnects if a heartbeat is not answered in time
            return self.answer(Action.HEARTBEAT, message)
        servers = self.servers
        server = servers.get(topic) if isinstance(topic, str) else None
        if servers.rates is not None and message.event != LEAVE:
            if wait := servers.wait(message.event):
                join_ref = server and server.channel_join_ref
                return self.refuse_for(wait, message, join_ref)
        if server is None:
            action = protocol.classify(message, False, None)
            if action is not Action.JOIN:
                return self.answer(action, message)
            server = self._serve(message)
        if server is not None:
            size = len(frame)
            server.receive(message, size if size < LARGE_FRAME else _bytes(frame))

    def answer(self, action: Action, message: Message) -> None:
        """Answer a message that needs no channel; ignore a stale one."""
        if action is Action.HEARTBEAT:
            self.push(protocol.ok(message))
        elif action is Action.LEFT:
            self.push(protocol.ok(message, message.join_ref))
        elif action is Action.UNMATCHED:
            if message.topic == HEARTBEAT_TOPIC:
                if message.event == CONNECTION_ID:
                    return self.push(protocol.ok(message, None, {"id": self.key}))
                if self.renew(message, None):
                    return
            self.refuse(message, Refusal.UNMATCHED_TOPIC)

    def refuse(
        self, message: Message, reason: Refusal, join_ref: Any = None, **details: Any
    ) -> None:
        """Reply with an error and its reason, log it and count it."""
        # the reason is part of the text: the log counts lines with the same text
        logger.warning(
            f"{reason}: %.100r on %.100r (%s)",
            message.event,
            message.topic,
            type(self.socket).__name__,
        )
        refusals.count(reason)
        self.push(protocol.refusal(message, reason, join_ref, **details))

    def refuse_for(self, seconds: float, message: Message, join_ref: Any) -> None:
        """Refuse a message that exceeds a rate; `join_ref` is that of its channel."""
        if message.event == JOIN:
            join_ref = message.join_ref
        wait = round(seconds, 3)
        self.refuse(message, Refusal.RATE_LIMITED, join_ref, retry_after=wait)

    def renew(self, message: Message, join_ref: Any) -> bool:
        """Answer a message with a new token of the client, soon; return False if it is none."""
        takes_tokens = self.socket.__phx_takes_tokens__
        if not takes_tokens or message.event != ACCESS_TOKEN:
            return False
        self.renewal.ask(message, join_ref)
        return True

    @property
    def renewal(self) -> Renewal:
        """Checks the new tokens of the client; made when the first one comes."""
        if self._renewal is None:
            self._renewal = Renewal(self)
        return self._renewal

    def undecodable(self, error: DecodeError) -> None:
        """Close the connection: a payload that was left undecoded at first turned out to be bad."""
        logger.warning("closing a connection with 1011: %.300s", error)
        self.transport.close(CloseCode.CRASH, Reason.CRASH)

    def push(self, message: Message | Reply) -> None:
        """Encode `message` and send it. Raises EncodeError."""
        self.transport.write(self.transport.prepare(self.serializer.encode(message)))

    def fastlane(self, channel_class: type[Channel], offsets: bool) -> Fastlane:
        """Return the encoding of broadcasts for the channels of `channel_class` on this connection."""
        held = channel_class.__phx_tables__.queued_events
        return _fastlane(self.serializer, self.transport.prepare, held, offsets)

    @property
    def holds_too_much(self) -> bool:
        """True if more bytes of broadcasts wait for the channels than may wait for one client."""
        return self.backlog.held_bytes > self.options.outbound["hard_bytes"]

    def overflowed(self, topic: str) -> None:
        """Close the connection: the channel of `topic` is too slow for its broadcasts."""
        logger.warning(
            "closing a connection with 1013: the channel of %.100r does not take its broadcasts, "
            "%d bytes wait",
            topic,
            self.backlog.held_bytes,
        )
        self.transport.close(CloseCode.OVERLOADED, Reason.CLOSED)

    # ---------------------------------------------------------------- channels

    def _serve(self, join: Message) -> ChannelServer | None:
        """Make the server of a topic for its first join. Return None if no channel answers the topic."""
        topic = join.topic
        is_text = isinstance(topic, str)
        match = routes_of(type(self.socket)).match(topic) if is_text else None
        if match is None:
            self._refuse_join(join)
            return None
        route, subtopic = match
        server = self.servers[topic] = ChannelServer(self, topic, route, subtopic)
        return server

    def _refuse_join(self, join: Message) -> None:
        """Reject a join of an unknown topic after joins that wait for the layer only."""
        if self.node.link.is_settled:
            self.refuse(join, Refusal.UNMATCHED_TOPIC)
        else:
            task = self.create_task(self._refuse_when_settled(join))
            _refusing.add(task)
            task.add_done_callback(_refusing.discard)

    async def _refuse_when_settled(self, join: Message) -> None:
        await self.node.link.settled()
        self.refuse(join, Refusal.UNMATCHED_TOPIC)

    def create_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # in the context of the socket: that of a broadcaster must not leak into its receivers
        return begin(run, self._context.copy())

    def busy(self) -> list[ChannelServer]:
        """Return the channel servers that have mail."""
        return [s for s in list(self.servers.values()) if s.task is not None]

    def has_joined(self, topic: str) -> bool:
        return topic in self.servers and self.servers[topic].channel is not None

    def joined(self) -> list[Channel]:
        """Return the channels that have joined."""
        return [s.channel for s in list(self.servers.values()) if s.channel]

    # ----------------------------------------------------- beginning and end

    async def subscribe_to_id(self) -> None:
        """Subscribe to ``Socket.id()``, when commands for the sockets of all nodes can arrive here.

        Raises TypeError for an id that is not a string.
        """
        await self.node.reachable()
        if self._id is not None and not await self._id.subscribe():
            self._id = None

    async def terminate(
        self,
        reason: Reason,
        exception: BaseException | None = None,
        code: int | None = None,
    ) -> None:
        """End every channel after its pending mail: the connection is gone."""
        self.node.discard_connection(self)
        if self._id is not None:
            self._id.end()
        self._stop_expiry()
        servers = list(self.servers.values())
        self.servers.admission.close()
        for server in servers:
            server.close(reason, exception)
        try:
            await finish(servers)
        finally:
            self.node.connections.ended(self)
            signals.socket_disconnected.emit(
                type(self.socket),
                socket=self.socket,
                code=code,
                reason=reason,
                exception=exception,
                duration=time.time() - self.opened_at,
            )
            self.transport = CLOSED
            self.socket.__phx__ = Ended(self.socket)

    def expire_at(self, seconds: float | None) -> None:
        """Close the connection with 4401 then (seconds of the epoch; None: not at all)."""
        self._stop_expiry()
        self.rights.expires_at = seconds
        if seconds is None:
            return
        left = seconds - time.time()
        if not left > 0:  # NaN is no time to come either
            return self.close(CloseCode.EXPIRED, Reason.EXPIRED)
        # not for longer: the clock of the machine may be set meanwhile
        delay, loop = min(left, LONGEST_TIMER), asyncio.get_running_loop()
        self._expiry = loop.call_later(
            delay, self.expire_at, seconds, context=self._context
        )

    def _stop_expiry(self) -> None:
        timer, self._expiry = self._expiry, None
        if timer is not None:
            timer.cancel()

    # ------------------------------------------------------ commands of a node

    @property
    def user(self) -> Any:
        return self.socket.user

    @property
    def source(self) -> Source | None:
        """The session or token that named the user."""
        return self.rights.source

    @property
    def claim(self) -> Claim | None:
        """The claim of the current token; None without a token."""
        return self.rights.claim

    @property
    def key(self) -> str:
        """The id of this connection, unique over all processes."""
        if self._key is None:
            self._key = self.node.new_id()
        return self._key

    def has_made_the_request_of(self, sender: str) -> bool:
        """Return whether `sender` is a Tab's, and this is its connection."""
        tab, source = Tab.parse(sender), self.source
        if tab is None or tab.connection != self.key:
            return False
        return tab.is_of(key_of(self.socket), source and source.session)

    def close(self, code: int, reason: Reason) -> None:
        """Close the connection with `code`; its channels end with `reason`."""
        self.transport.close(code, reason)

    def cut_off(
        self,
        code: int = CloseCode.DISCONNECTED,
        reason: Reason = Reason.DISCONNECTED,
    ) -> None:
        """Close the connection because of a command, and drop the mail of its client."""
        self.is_cut_off = True
        for server in list(self.servers.values()):
            server.close(reason)
        self.transport.close(code, reason)

    def disconnect_named(self, name: str) -> None:
        """Close the connection if ``Socket.id()`` is `name`, now or when the id is known."""
        if self._id is not None:
            self._id.disconnect_named(name)

    def close_topic(self, topic: str) -> None:
        """End the channel of `topic`, and refuse a join of it that still runs."""
        if topic in self.servers:
            self.servers[topic].close_topic()

    async def reauthorize(self, topic: str | None = None) -> None:
        """Check again whether the client may be in its channels, or in that of `topic`."""
        servers = [
            server
            for server in self.servers.values()
            if topic is None or server.topic == topic
        ]
        self.rights.have_changed()
        try:
            await self.rights.are_current()
        except CRASHES as error:
            if must_end(error):
                raise
            for server in servers:
                fail(server, error)
        else:
            await asyncio.gather(*(ask_again(server) for server in servers))

    def describe(self) -> dict[str, Any]:
        """Return the facts about this connection for operators, as JSON values."""
        return {
            "id": self.node.shown(self.key),
            "name": self._id and self._id.name,
            "user": key_of(self.socket),
            "username": username_of(self.socket),
            "transport": self.transport.name,
            "opened_at": self.opened_at,
            "last_seen": self.transport.last_seen(),
            "buffered_bytes": self.transport.pending_bytes(),
            "topics": [t for t, server in self.servers.items() if server.channel],
        }


# one for all channels of a class that speak the same version of the wire
_fastlane: Callable[..., Fastlane] = functools.lru_cache(maxsize=128)(Fastlane)

# the tasks that refuse joins later; nothing else refers to them
_refusing: set[asyncio.Task[None]] = set()


def _bytes(frame: Frame) -> int:
    """Return the bytes of `frame`; of a short text the number of characters is close enough."""
    if isinstance(frame, bytes) or len(frame) < LARGE_FRAME or frame.isascii():
        return len(frame)
    return len(frame.encode())
