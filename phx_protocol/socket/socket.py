"""Socket: one connection, whatever carries it; what users subclass to authenticate it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import msgspec
from django.utils.module_loading import import_string

from .. import signals
from ..auth.permissions import SOURCE, Source, reloaded
from ..auth.users import key_of, primary_key, username_of
from ..concurrency.callbacks import as_method, look_for_stale_connections, settled
from ..concurrency.tasks import CRASHES, begin, must_end
from ..conf import Options, options
from ..exceptions import ConnectionRefused, DecodeError
from ..history import History
from ..logs import get_logger
from ..logs.filters import filter_parameters
from ..logs.printable import bounded
from ..pubsub.serving import mounted
from ..wire import protocol
from ..wire.json import encode
from ..wire.messages import (
    HEARTBEAT,
    HEARTBEAT_TOPIC,
    JOIN,
    LEAVE,
    Broadcast,
    Frame,
    Message,
    Reply,
)
from ..wire.protocol import Action
from ..wire.reasons import CloseCode, Reason, Refusal
from ..wire.serializers import DEFAULT_SERIALIZERS, SMALL, Serializer, head_decoder
from ..wire.topics import TopicPatterns
from .admission import Admission
from .budget import Budget
from .channel import Channel
from .connect_info import ConnectInfo
from .refusals import refusals
from .server import ChannelServer
from .throttle import Rates, Throttles, parse_rates, retry_after

if TYPE_CHECKING:
    from ..node.node import Node

logger = get_logger("phx_protocol.socket")

#: bytes of payloads of one client that are decoded at once: as objects they take up to thirty
#: times as much
DECODED_BYTES = 1024 * 1024


class Transport(Protocol):
    """What a socket needs of the connection below it. Nothing here ever waits."""

    name: str

    @property
    def prepare(self) -> Callable[[Frame], Any]:
        """What makes of a frame what ``write`` takes; the same function for all who share it."""

    def write(self, prepared: Any) -> None:
        """Send it, or keep it until the client takes it."""

    def close(self, code: int, reason: Reason) -> None:
        """End the connection with `code`; its channels end with `reason`."""

    def pending_bytes(self) -> int:
        """Bytes that wait for the client."""

    def last_seen(self) -> float:
        """When the client was last heard of, in seconds of the epoch."""


class Fastlane(NamedTuple):
    """How a broadcast becomes a frame, and for which events it does not.

    Subscribers with equal ones get the very same frame, made once. Without `offsets` its ref is
    null: some clients take a broadcast that has one for a reply.
    """

    serializer: Serializer
    prepare: Callable[[Frame], Any]
    intercepts: frozenset[str]
    offsets: bool = True

    def frame(self, broadcast: Broadcast) -> Frame:
        """`broadcast` as these subscribers get it. Raises EncodeError."""
        if broadcast.offset is not None and not self.offsets:
            broadcast = msgspec.structs.replace(broadcast, offset=None)
        return self.serializer.fastlane(broadcast)


class Route(NamedTuple):
    """Where a topic pattern leads."""

    channel_class: type[Channel]
    assigns: Mapping[str, Any]

    def make(self, server: ChannelServer, subtopic: str) -> Channel:
        return self.channel_class(
            server, subtopic, {**server.socket.assigns, **self.assigns}
        )


class Socket:
    """One connection of a client. Subclass it for connect rules, an id, or channels of its own.

    The attribute of a setting's name in lower case (``timeout``, ``check_origin``,
    ``max_channels``, ...) wins over the setting. Mirrors ``Phoenix.Socket``.
    """

    # ---------------------------------------------------------------- for users

    #: topic pattern -> Channel class (or its dotted path, or a pair of it and assigns); in
    #: order, the first match wins. None: the setting CHANNELS.
    channels: ClassVar[Mapping[str, Any] | None] = None
    #: level at which connects are logged; None for not at all
    log: ClassVar[int | None] = logging.INFO

    #: the ASGI scope of the connection
    scope: dict[str, Any]
    #: query parameters, nested as their brackets say, and those of the URL route (which win)
    params: dict[str, Any]
    #: state of the connection, copied into each channel at its join
    assigns: dict[str, Any]
    #: the token of phoenix.js's ``authToken`` option, or None
    auth_token: str | None

    async def connect(self, params: dict[str, Any]) -> None:
        """Authenticate: raise ConnectionRefused to refuse; the default lets everybody in."""

    def id(self) -> str | None:
        """A name for the sockets of, say, one user: ``disconnect(name)`` closes them all."""
        return None

    @property
    def user(self) -> Any:
        """The user of the connection: the session's when it can be trusted, else anonymous."""
        return self.scope.get("user")

    async def aget_user(self) -> Any:
        """The user as the database has it now, which is ``user`` from then on.

        ``user`` is as it was at the connect, which may be days ago. Who is gone or inactive is
        anonymous.
        """
        await self.reload_user()
        return self.user

    @functools.cached_property
    def connect_info(self) -> ConnectInfo:
        """What the request told: ``uri``, ``peer``, ``x_headers``, ``user_agent``, ``trace_headers``."""
        return ConnectInfo(self.scope)

    async def push_to(self, topic: str, event: str, payload: Any) -> None:
        """Send an event on any topic, joined or not, to this client."""
        self.push(Message(None, None, topic, event, payload))

    # ------------------------------------------------------- the implementation

    @classmethod
    def routes(cls) -> TopicPatterns[Route]:
        """The topics of this socket and where they lead. Raises InvalidTopicPattern, ImportError."""
        return _routes(options(cls))

    @classmethod
    def versions(cls) -> tuple[tuple[str, Serializer], ...]:
        """The versions of the wire that this socket speaks."""
        return _serializers(options(cls))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        as_method(cls, "connect", 1)  # it raises TypeError

    async def authorize(self, params: dict[str, Any]) -> None:
        """Call ``connect``, whatever kind of callable it is.

        Raises TypeError when it returns something: nobody is let in by a ``connect`` that has not
        run, or that says no in a way of its own (``return False``).
        """
        look_for_stale_connections()
        where = f"{type(self).__name__}.connect"
        answer = await as_method(type(self), "connect", 1)(self, params)
        answer = await settled(answer, where)
        if answer is False:
            raise TypeError(
                f"{where} raises ConnectionRefused to refuse, it returned False"
            )

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.params = {}
        self.assigns = {}
        self.auth_token = None
        self.options: Options = options(type(self))
        self._short = min(
            self.options.max_topic_length,
            self.options.max_event_length,
            self.options.max_ref_length,
        )
        self.waiting = 0  # frames that the channels have not taken yet
        self.waiting_bytes = 0  # of these, and of those being handled
        self.held_bytes = 0  # of broadcasts that the channels have not taken yet
        self.admission = Admission(self.options.max_channels)
        self._servers: dict[str, ChannelServer] = {}
        rates = _rates(self.options)
        self._rates = Throttles(rates) if rates else None  # over all channels
        self._throttles: dict[type[Channel], Throttles] = {}
        self._id: SocketId | None = None
        self._is_terminated = False
        self.is_cut_off = False  # by an order: nothing more of its client is handled
        self.generation = 0  # how often a right of the user may have changed
        # how often the user was wanted as the database has it, and up to which of these times it
        # has been loaded
        self._wanted = 0
        self._loaded = 0
        self._loading: asyncio.Task[None] | None = None
        # who was ordered to go while it was not known yet who this is
        self._missed: set[tuple[str, str | None]] | None = None
        self.requested_at = time.perf_counter()

    def open(self, serializer: Serializer, transport: Transport, node: Node) -> None:
        """The connection is accepted: from here on frames may come."""
        self.serializer = serializer
        self._decode = head_decoder(serializer)
        self.transport = transport
        self.node = node
        self.opened_at = time.time()
        self.tell_connected(transport.name, serializer, "ok")
        self._context = contextvars.copy_context()
        node.add_connection(self)

    def tell_connected(
        self, transport: str, serializer: Serializer, result: str
    ) -> None:
        """What became of the request: "ok", "refused" or "crashed"."""
        signals.socket_connected.emit(
            type(self),
            socket=self,
            transport=transport,
            serializer=type(serializer).__name__,
            duration=time.perf_counter() - self.requested_at,
            result=result,
        )

    def handle_in(self, frame: Frame) -> None:
        """One frame of the client, answered here or handed to its topic. Never waits.

        Raises DecodeError for what is no frame of this version.
        """
        message = self._decode(frame)
        topic = message.topic
        # what is short as a whole has no long parts
        if len(frame) > self._short and (excess := self._excess(message)):
            return self.refuse(message, excess)
        if message.event == HEARTBEAT and topic == HEARTBEAT_TOPIC:
            # past everything that waits: phoenix.js reconnects when it is not answered
            return self.answer(Action.HEARTBEAT, message)
        server = self._servers.get(topic) if isinstance(topic, str) else None
        if self._rates is not None and message.event != LEAVE:
            throttles = self._rates.of(message.event)
            if wait := retry_after(throttles, time.monotonic()):
                return self.refuse_for(
                    wait, message, server and server.channel_join_ref
                )
        if server is None:
            action = protocol.classify(message, False, None)
            if action is not Action.JOIN:
                return self.answer(action, message)
            server = self._serve(message)
        if server is not None:
            size = len(frame)
            server.deliver(message, size if size < SMALL else _bytes(frame))

    def answer(self, action: Action, message: Message) -> None:
        """Answer what needs no channel; silence for what is stale."""
        if action is Action.HEARTBEAT:
            self.push(protocol.ok(message))
        elif action is Action.LEFT:
            self.push(protocol.ok(message, message.join_ref))
        elif action is Action.UNMATCHED:
            self.refuse(message, Refusal.UNMATCHED_TOPIC)

    def refuse(
        self, message: Message, reason: Refusal, join_ref: Any = None, **details: Any
    ) -> None:
        """Answer with an error that says why, log it and count it."""
        # the reason is part of the text: what repeats is held back by its text
        logger.warning(
            f"{reason}: %.100r on %.100r (%s)",
            message.event,
            message.topic,
            type(self).__name__,
        )
        refusals[reason] += 1
        self.push(protocol.refusal(message, reason, join_ref, **details))

    def refuse_for(self, seconds: float, message: Message, join_ref: Any) -> None:
        """Refuse what comes more often than a rate allows; `join_ref` is that of its channel."""
        if message.event == JOIN:
            join_ref = message.join_ref
        wait = round(seconds, 3)
        self.refuse(message, Refusal.RATE_LIMITED, join_ref, retry_after=wait)

    def undecodable(self, error: DecodeError) -> None:
        """A frame turned out to be none when its payload was decoded: that ends the connection."""
        logger.warning("closing a connection with 1011: %.300s", error)
        self.transport.close(CloseCode.CRASH, Reason.CRASH)

    @functools.cached_property
    def budget(self) -> Budget:
        """How much of what the client sent is decoded at once; made for the first large frame."""
        return Budget(DECODED_BYTES)

    def owed(self) -> float:
        """Seconds for which nothing of the client is to be read: its large frames took the loop."""
        budget: Budget | None = self.__dict__.get("budget")
        return 0.0 if budget is None else budget.owed()

    @property
    def holds_too_much(self) -> bool:
        """Whether more broadcasts wait for the channels than may wait for one client at once."""
        return self.held_bytes > self.options.outbound["hard_bytes"]

    def overflowed(self, topic: str) -> None:
        """The channel of `topic` does not take its broadcasts: that ends the connection."""
        logger.warning(
            "closing a connection with 1013: the channel of %.100r does not take its broadcasts, "
            "%d bytes wait",
            topic,
            self.held_bytes,
        )
        self.transport.close(CloseCode.OVERLOADED, Reason.CLOSED)

    def _excess(self, message: Message) -> Refusal | None:
        """What of `message` is longer than it may be."""
        if _length(message.topic) > self.options.max_topic_length:
            return Refusal.TOPIC_TOO_LONG
        if _length(message.event) > self.options.max_event_length:
            return Refusal.EVENT_TOO_LONG
        longest = max(_length(message.ref), _length(message.join_ref))
        return Refusal.REF_TOO_LONG if longest > self.options.max_ref_length else None

    def _serve(self, join: Message) -> ChannelServer | None:
        """The server for a topic that is joined for the first time, or None: it was refused."""
        topic = join.topic
        match = self.routes().match(topic) if isinstance(topic, str) else None
        if match is None:
            self._refuse_join(join)
            return None
        route, subtopic = match
        server = self._servers[topic] = ChannelServer(self, topic, route, subtopic)
        return server

    def _refuse_join(self, join: Message) -> None:
        """Answer a join that no channel takes, behind those that wait for the layer only."""
        if self.node.layer.is_settled:
            self.refuse(join, Refusal.UNMATCHED_TOPIC)
        else:
            task = self.create_task(self._refuse_when_settled(join))
            _refusing.add(task)
            task.add_done_callback(_refusing.discard)

    async def _refuse_when_settled(self, join: Message) -> None:
        await self.node.layer.settled()
        self.refuse(join, Refusal.UNMATCHED_TOPIC)

    def forget(self, server: ChannelServer) -> None:
        """`server` has neither channel nor mail."""
        if self._servers.get(server.topic) is server:
            del self._servers[server.topic]

    def push(self, message: Message | Reply) -> None:
        """Encode and send. Raises EncodeError."""
        self.transport.write(self.transport.prepare(self.serializer.encode(message)))

    @staticmethod
    def history_of(topic: str) -> History | None:
        return history_of(topic)

    def fastlane(self, channel_class: type[Channel], offsets: bool) -> Fastlane:
        prepare, held = self.transport.prepare, channel_class._held_events
        return Fastlane(self.serializer, prepare, held, offsets)

    def throttles(self, channel_class: type[Channel]) -> Throttles | None:
        """The rates of `channel_class` for this client, over all its channels of that class."""
        rates = channel_class._rates
        if not rates:
            return None
        return self._throttles.setdefault(channel_class, Throttles(rates))

    def create_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # in the socket's own context: a broadcaster's must not leak into its receivers
        return begin(run, self._context.copy())

    async def announce(self) -> None:
        """Be within reach of other processes: of ``disconnect(id)``, and of what concerns all.

        Raises TypeError for an id that is no string.
        """
        await self.node.reachable()
        name = await settled(self.id())
        if name is None:
            self._missed = None
            return
        if not isinstance(name, str):
            raise TypeError(
                f"{type(self).__name__}.id() must return a string or None, not {name!r}"
            )
        await self.node.ready(name)
        if self._is_terminated:
            return  # it was closed meanwhile
        self._id = SocketId(self, name)
        self.node.pubsub.subscribe(name, self._id)
        missed, self._missed = self._missed, None
        if missed and ("id", name) in missed:
            self.cut_off()

    async def terminate(
        self,
        reason: Reason,
        exception: BaseException | None = None,
        code: int | None = None,
    ) -> None:
        """The connection is gone: every channel ends behind the mail that it has."""
        self._is_terminated = True
        self.node.discard_connection(self)
        if self._id is not None:
            self.node.pubsub.unsubscribe(self._id.name, self._id)
        servers = list(self._servers.values())
        for server in servers:
            server.close(reason, exception)
        try:
            if servers:
                await asyncio.gather(*(server.finish() for server in servers))
        finally:
            self.node.connections.ended(self)
            signals.socket_disconnected.emit(
                type(self),
                socket=self,
                code=code,
                reason=reason,
                exception=exception,
                duration=time.time() - self.opened_at,
            )

    # ------------------------------------------------------------------ orders

    def expect_orders(self) -> None:
        """Take orders from here on, before ``connect`` has decided who this is."""
        self._missed = set()
        self._context = contextvars.copy_context()

    async def authenticated(self) -> None:
        """Look at the orders that came while ``connect`` ran. Raises ConnectionRefused."""
        then = key_of(self)
        while self._take_missed():
            self.right_has_changed()
            await self.user_is_current()
        now = key_of(self)
        if now != then or self._missed and ("user", now) in self._missed:
            logger.warning("refused: its user had to go while it connected")
            raise ConnectionRefused(403)

    def _take_missed(self) -> bool:
        """Whether it was ordered, since this was asked last, to look at this user again."""
        session = self.source and self.source.session
        names = {("look", None), ("look", key_of(self)), ("session", session)}
        found = names & (self._missed or set())
        if self._missed is not None:
            self._missed -= found
        return bool(found)

    def user_disconnected(self, key: str) -> None:
        """The user with that primary key has to go, and it is not known yet who this is."""
        self._miss("user", key)

    def look_again(self, key: str | None) -> None:
        """A right of the user with that primary key (None: of all) may have changed."""
        self._miss("look", key)

    def session_ended(self, digest: str) -> None:
        """The session whose key has that digest may name somebody else by now."""
        self._miss("session", digest)

    def disconnect_named(self, name: str) -> None:
        """Close the connection if ``id()`` is `name`, now or when that is known."""
        if self._id is None:
            self._miss("id", name)
        elif self._id.name == name:
            self.cut_off()

    def _miss(self, what: str, name: str | None) -> None:
        if self._missed is not None:
            self._missed.add((what, name))

    def close(self, code: int, reason: Reason) -> None:
        """Close the connection with `code`; its channels end with `reason`."""
        self.transport.close(code, reason)

    def cut_off(self) -> None:
        """Close the connection because somebody said so; what waits of its client is dropped."""
        self.is_cut_off = True
        for server in list(self._servers.values()):
            server.close(Reason.DISCONNECTED)
        self.transport.close(CloseCode.DISCONNECTED, Reason.DISCONNECTED)

    def right_has_changed(self) -> None:
        """Let no answer count that was given before this, and load the user before the next one."""
        self.generation += 1
        self._wanted += 1

    async def reload_user(self) -> None:
        """Have the user as the database has it now, or later; raises what the database raises."""
        # no right has changed: ``authorize`` may ask for this whenever it is asked
        self._wanted += 1
        await self.user_is_current()

    async def user_is_current(self) -> None:
        """Wait until the user is as it was when a right of it changed last, or later.

        One reading at a time serves all who wait; one that began before the change does not count.
        """
        wanted = self._wanted
        while self._loaded < wanted:
            if self._loading is None:
                self._loading = self.create_task(self._load_user())
            await asyncio.shield(self._loading)

    async def _load_user(self) -> None:
        wanted, before = self._wanted, key_of(self)
        try:
            if self.user is not None:
                self.scope["user"] = await self._current_user()
            self._loaded = wanted
            # what was answered for somebody else does not count
            self.generation += key_of(self) != before
        finally:
            self._loading = None

    async def _current_user(self) -> Any:
        """Ask the session or token that named the user, or else the database, who the user is now."""
        source = self.source
        if source is None:
            return await reloaded(self.user)
        user = await source.load()
        if primary_key(user) != primary_key(
            source.user
        ):  # the session is somebody else's by now
            from django.contrib.auth.models import AnonymousUser

            user = AnonymousUser()
        self.scope[SOURCE] = source._replace(user=user)
        return user

    @property
    def source(self) -> Source | None:
        """The session or token that named the user, unless something else has put another one there since."""
        source: Source | None = self.scope.get(SOURCE)
        return source if source is not None and source.user is self.user else None

    async def reauthorize(self, topic: str | None = None) -> None:
        """Have the channels (of `topic`) ask again whether the client may be there."""
        servers = [
            server
            for server in self._servers.values()
            if topic is None or server.topic == topic
        ]
        self.right_has_changed()
        try:
            await self.user_is_current()
        except CRASHES as error:
            if must_end(error):
                raise
            for server in servers:
                server.fail(error)
        else:
            await asyncio.gather(*(server.ask_again() for server in servers))

    def close_topic(self, topic: str) -> None:
        """End the channel of `topic`, if it is joined or is being joined."""
        if topic in self._servers:
            self._servers[topic].close_topic()

    def describe(self) -> dict[str, Any]:
        """What an operator is told of this connection; plain JSON."""
        return {
            "id": self.node.shown(self.key),
            "name": self._id and self._id.name,
            "user": key_of(self),
            "username": username_of(self),
            "transport": self.transport.name,
            "opened_at": self.opened_at,
            "last_seen": self.transport.last_seen(),
            "buffered_bytes": self.transport.pending_bytes(),
            "topics": [t for t, server in self._servers.items() if server.channel],
        }

    @functools.cached_property
    def key(self) -> str:
        """The name of this one connection, unique over all processes."""
        return self.node.new_id()

    def busy(self) -> list[ChannelServer]:
        """Those that have mail."""
        return [s for s in list(self._servers.values()) if s.task is not None]

    def has_joined(self, topic: str) -> bool:
        return topic in self._servers and self._servers[topic].channel is not None

    def joined(self) -> list[Channel]:
        """The channels that have joined."""
        return [s.channel for s in list(self._servers.values()) if s.channel]

    def filtered(self, payload: Any) -> Any:
        """`payload` as it may be logged: small, without the values of FILTER_PARAMETERS."""
        return filter_parameters(bounded(payload), self.options.filter_parameters)


class SocketId:
    """The subscription of a socket to its own id: a broadcast "disconnect" there closes it."""

    __slots__ = ("socket", "name")

    fastlane = None

    def __init__(self, socket: Socket, name: str) -> None:
        self.socket = socket
        self.name = name

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        if broadcast.event == "disconnect":
            self.socket.cut_off()


# the tasks that refuse joins later, which nobody else holds
_refusing: set[asyncio.Task[None]] = set()


def _bytes(frame: Frame) -> int:
    """How large `frame` is: where it matters in bytes, else at least in characters."""
    if isinstance(frame, bytes) or len(frame) < SMALL or frame.isascii():
        return len(frame)
    return len(frame.encode())


def _length(value: Any) -> int:
    return len(value if isinstance(value, str) else encode(value))


@functools.cache
def _rates(options: Options) -> Rates:
    return parse_rates(options.throttle)


@functools.cache
def _routes(options: Options) -> TopicPatterns[Route]:
    return TopicPatterns(
        (pattern, load_channel(target)) for pattern, target in options.channels.items()
    )


def known_sockets() -> list[type[Socket]]:
    """The Socket classes in SOCKETS, and those that this process serves, in order.

    A worker knows only those in SOCKETS. Raises ImportError, TypeError.
    """
    return _known_sockets(options(), tuple(mounted))


def _known_sockets(
    options: Options, served: tuple[type[Socket], ...]
) -> list[type[Socket]]:
    named = [load_socket(target) for target in options.sockets.values()]
    return list(dict.fromkeys([*named, *served]))


def history_of(topic: str) -> History | None:
    """What is kept of `topic`: as the first known channel class says that has a history."""
    histories = (channel.history for channel in channels_of(topic))
    return next((history for history in histories if history is not None), None)


def channels_of(topic: str) -> tuple[type[Channel], ...]:
    """The channel classes that answer `topic`, of each known socket the one that does."""
    # patterns are few; a cache by topic would have as many as clients make up
    matches = (
        routes.match(topic) for routes in _known_routes(options(), tuple(mounted))
    )
    return tuple(match[0].channel_class for match in matches if match is not None)


@functools.lru_cache(maxsize=8)
def _known_routes(
    options: Options, served: tuple[type[Socket], ...]
) -> tuple[TopicPatterns[Route], ...]:
    try:
        known = _known_sockets(options, served)
        routes = [socket_class.routes() for socket_class in known]
    except (ImportError, TypeError):
        logger.exception("SOCKETS cannot be loaded: nobody knows what topics are")
        return ()
    return tuple(dict.fromkeys(routes))


@functools.cache
def _serializers(options: Options) -> tuple[tuple[str, Serializer], ...]:
    custom = options.serializers.items()
    return (
        tuple((vsn, _load(target)()) for vsn, target in custom) or DEFAULT_SERIALIZERS
    )


def load_socket(target: Any) -> type[Socket]:
    """A Socket class, given as itself or as its dotted path. Raises TypeError, ImportError."""
    socket_class = _load(target)
    if not (isinstance(socket_class, type) and issubclass(socket_class, Socket)):
        raise TypeError(f"{target!r} is not a subclass of phx_protocol.Socket")
    return socket_class


def _load(target: Any) -> Any:
    return import_string(target) if isinstance(target, str) else target


def load_channel(target: Any) -> Route:
    """A value of CHANNELS: a class, its dotted path, or a pair of either and assigns."""
    target, assigns = target if isinstance(target, (tuple, list)) else (target, {})
    channel_class = _load(target)
    if not (isinstance(channel_class, type) and issubclass(channel_class, Channel)):
        raise TypeError(f"{target!r} is not a subclass of phx_protocol.Channel")
    return Route(channel_class, assigns)
