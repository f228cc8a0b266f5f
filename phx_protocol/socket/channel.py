"""Channel: what users subclass to answer a topic (``Phoenix.Channel``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..auth.permissions import Requirement
from ..auth.users import key_of
from ..concurrency.callbacks import AsyncCallable, as_method
from ..history import History
from ..history.policy import held_events
from ..logs import get_logger
from ..logs.printable import shown
from ..wire.reasons import Reason, Refusal
from .events import Answer, Handler, event, events_of
from .payloads import PayloadType
from .refusals import refusals
from .throttle import Rates, parse_rates

if TYPE_CHECKING:
    from ..pubsub.replies import ReplyRef
    from .server import ChannelServer
    from .socket import Socket

__all__ = ["Answer", "Channel", "Reason", "event"]

logger = get_logger("phx_protocol.channel")


#: name -> how many arguments it takes beside the channel
CALLBACKS = {
    "authorize": 0,
    "join": 1,
    "after_join": 0,
    "handle_in": 2,
    "handle_out": 2,
    "handle_info": 1,
    "terminate": 1,
}


class PresenceClass(Protocol):
    """A subclass of Presence: it is told of a client when its join has been answered."""

    async def enter(self, channel: Any) -> None: ...


class Channel:
    """The answer to one topic for one client. Subclass it and register it for a topic pattern.

    One instance is made for every join. Its callbacks run one at a time, in order, each an
    ``async def``, a plain ``def`` (run in a thread), or another callable, such as one behind
    ``database_sync_to_async`` or a decorator: what it returns is awaited if it can be. One that
    cannot be called so raises TypeError when the class is made. An exception in one ends this
    channel only: the client sees ``phx_error`` and joins again.
    """

    # ---------------------------------------------------------------- for users

    #: broadcasts of these events pass through ``handle_out`` instead of going straight out
    intercepts: ClassVar[Iterable[str]] = frozenset()
    #: levels at which joins and events are logged; None for not at all
    log_join: ClassVar[int | None] = logging.INFO
    log_handle_in: ClassVar[int | None] = logging.DEBUG

    #: who may join: whoever is signed in; who has these permissions ("app_label.codename", one
    #: or several), as ``user.has_perms`` says. Others are answered ``{"reason": "unauthorized"}``, ``join`` is not called.
    login_required: ClassVar[bool] = False
    permission_required: ClassVar[str | Iterable[str] | None] = None
    #: how often one client may push to channels of this class: "20/s" (or m, h, d), or event ->
    #: rate, with "*" for all events together and "phx_join" for joins. What is beyond it is
    #: answered ``{"reason": "rate limited", "retry_after": seconds}``.
    throttle: ClassVar[str | Mapping[str, str] | None] = None
    #: seconds that a running callback gets when the socket is gone; None: SHUTDOWN_TIMEOUT
    shutdown_timeout: ClassVar[float | None] = None

    #: what is kept for clients that come back; None for nothing
    history: ClassVar[History | None] = None
    #: event -> the type of its payload, for what is pushed and broadcast on topics of this class: a
    #: payload that does not fit raises EncodeError where it is sent
    pushes: ClassVar[Mapping[str, Any]] = {}
    #: a Presence class: after the join the client gets who is there and is tracked itself
    presence: ClassVar[PresenceClass | None] = None

    #: the socket that joined, and the topic it joined
    socket: Socket
    topic: str
    #: what the ``*`` of the pattern stands for; "" for an exact topic
    subtopic: str
    #: state of this channel: a copy of the socket's made at the join, with the route's on top
    assigns: dict[str, Any]
    #: the exception that ended the channel, while ``terminate`` runs with ``Reason.CRASH``
    exception: BaseException | None = None

    async def authorize(self) -> bool:
        """Whether this client may be here: asked before ``join``, and by ``reauthorize`` again.

        Return True or False. The default asks nothing beyond the two attributes above. It may be
        asked while another callback runs: a right that is taken away waits for nothing.
        """
        return True

    async def join(self, payload: Any) -> Answer:
        """Decide about a join; called once, before anything else. There is no default.

        Return ``"ok"`` or ``"error"``, or either with a reply payload (``("ok", {...})``), or
        raise JoinDenied. Nothing can be pushed yet: see ``after_join``. Types of the payload and
        of the replies are declared as for an ``@event``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define join(self, payload)"
        )

    async def after_join(self) -> None:
        """Called when the join's reply is on its way: the place for first pushes."""

    async def handle_in(self, event: str, payload: Any) -> Answer:
        """Handle an event of the client that no ``@event`` method takes.

        Return None for no reply, a status (``"ok"``, ``"error"``, any word), or a status with
        a payload. The default answers an error and logs a warning; Phoenix crashes the channel.
        """
        logger.warning("%s: unhandled event %.100r", self.topic, event)
        refusals[Refusal.UNHANDLED_EVENT] += 1
        return "error", {"reason": Refusal.UNHANDLED_EVENT}

    async def handle_out(self, event: str, payload: Any) -> None:
        """Called for each broadcast of an event in `intercepts`: ``push`` it on, changed or not."""
        await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        """Called with what ``send_info`` sent and with broadcasts of further topics.

        The default logs a warning, with the values of FILTER_PARAMETERS masked.
        """
        logger.warning(
            "%s: unhandled message %.100r", self.topic, self.socket.filtered(message)
        )

    async def terminate(self, reason: Reason) -> None:
        """Called once when the channel ends, if ``join`` returned (a denied one included)."""

    def presence_key(self) -> str:
        """Under which key `presence` tracks the client: its user, or the channel if it has none.

        Called on the event loop: it must not wait.
        """
        return key_of(self.socket) or self._server.id

    def presence_meta(self) -> dict[str, Any]:
        """What `presence` tells of the client; the default is when it came, in seconds."""
        return {"online_at": int(time.time())}

    async def push(self, event: str, payload: Any) -> None:
        """Send an event to this client. `payload` is a mapping or ``bytes``.

        Raises EncodeError for what the client cannot be sent or `pushes` declares otherwise,
        RuntimeError before the join. In ``handle_out`` a client with V1 is left out of what is
        binary, with a line in the log. Mirrors ``Phoenix.Channel.push/3``.
        """
        self._server.push(self, event, self.check_push(event, payload))

    async def broadcast(self, event: str, payload: Any) -> None:
        """Send an event to all subscribers of the topic, on every process.

        Those of this process have it when this returns. A channel layer that is down is logged
        and counted, never raised here. Raises EncodeError as ``push`` does. Mirrors
        ``Phoenix.Channel.broadcast/3``.
        """
        payload = self.check_push(event, payload)
        await self._server.broadcast(self, event, payload)

    async def broadcast_from(self, event: str, payload: Any) -> None:
        """As ``broadcast``, to all but this client. Mirrors ``Phoenix.Channel.broadcast_from/3``."""
        payload = self.check_push(event, payload)
        await self._server.broadcast(self, event, payload, from_self=True)

    def reply_ref(self) -> ReplyRef:
        """A value (it can be pickled) to answer the event being handled later.

        Hand it to ``phx_protocol.reply`` anywhere. Raises RuntimeError outside ``handle_in``
        and for an event that came without a ref. Mirrors ``Phoenix.Channel.socket_ref/1``.
        """
        return self._server.reply_ref(self)

    def send_info(self, message: Any) -> None:
        """Put `message` behind the channel's other mail; ``handle_info`` gets it."""
        self._server.send_info(self, message)

    async def subscribe(self, topic: str) -> None:
        """Have broadcasts of a further topic come to ``handle_info``, until the channel ends."""
        await self._server.subscribe(self, topic)

    async def unsubscribe(self, topic: str) -> None:
        """The end of ``subscribe``."""
        self._server.unsubscribe(self, topic)

    async def stop(self, reason: str = Reason.NORMAL) -> None:
        """End the channel after the running callback, whose reply goes out first; at once if none runs.

        For the reasons "normal" and "shutdown" the client gets ``phx_close``; for any other
        ``phx_error``. Mirrors ``{:stop, reason, socket}``.
        """
        self._stop_reason = str(reason)
        self._server.stop_soon(self)

    async def reauthorize(self) -> bool:
        """Ask again whether the client may be here, with its user as the database has it now.

        If not, no broadcast is delivered to it any more, it ends after the running callback with
        ``phx_close`` (on which phoenix.js stays away), and this returns False. From elsewhere:
        ``phx_protocol.reauthorize``.
        """
        return await self._server.reauthorize(self)

    @property
    def join_ref(self) -> Any:
        """The ref that ties this channel to the client's join."""
        return self._server.channel_join_ref

    @property
    def params(self) -> dict[str, Any]:
        """The parameters the socket connected with, those of the URL route included."""
        return self.socket.params

    # ------------------------------------------------------- the implementation

    _events: ClassVar[dict[str, Handler]] = {}
    _callbacks: ClassVar[dict[str, AsyncCallable]]
    _join: ClassVar[Handler]
    _pushes: ClassVar[dict[str, PayloadType]] = {}
    _intercepts: ClassVar[frozenset[str]] = frozenset()
    _held_events: ClassVar[frozenset[str]] = frozenset()
    # whether the tables are those of the finished class: a class decorator comes after they are made
    _is_finished: ClassVar[bool] = False
    _requirement: ClassVar[Requirement | None] = None
    _rates: ClassVar[Rates] = {}
    _server: ChannelServer
    _stop_reason: str | None = None
    _joined_at: float | None = None
    _is_cut_off: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._make_tables()
        cls._is_finished = False
        cls._pushes = {
            name: declared
            for name, annotation in cls.pushes.items()
            if (declared := PayloadType.of(annotation)) is not None
        }
        if isinstance(cls.intercepts, str):
            raise TypeError(
                f"{cls.__name__}.intercepts is a set of event names, not a string"
            )
        cls._intercepts = frozenset(cls.intercepts)
        if cls.history is not None and not isinstance(cls.history, History):
            raise TypeError(
                f"{cls.__name__}.history is a History or None, not {shown(cls.history, 100)}"
            )
        if cls.presence is not None and not hasattr(cls.presence, "enter"):
            raise TypeError(
                f"{cls.__name__}.presence is a Presence class or None, not {shown(cls.presence, 100)}"
            )
        cls._held_events = held_events(cls._intercepts, cls.history)

    @classmethod
    def _make_tables(cls) -> None:
        """Look up which methods are called for what. Raises TypeError for what is no method."""
        # No method is ever reached by a name that came from the wire: only through this table.
        cls._events = events_of(cls)
        cls._callbacks = {n: as_method(cls, n, count) for n, count in CALLBACKS.items()}
        cls._join = Handler(cls, "join")
        cls._requirement = Requirement.of(cls.login_required, cls.permission_required)
        of_events = {n: h.rate for n, h in cls._events.items() if h.rate is not None}
        cls._rates = {**parse_rates(cls.throttle), **of_events}

    @classmethod
    def check_push(cls, event: str, payload: Any) -> Any:
        """Return `payload` as it goes out. Raises EncodeError when it is not as `pushes` declares it."""
        declared = cls._pushes.get(event)
        if declared is None:
            return payload
        return declared.sent(payload, f"{cls.__name__}.pushes[{event!r}]")

    def __init__(
        self, server: ChannelServer, subtopic: str, assigns: dict[str, Any]
    ) -> None:
        if not self._is_finished:
            self._make_tables()
            type(self)._is_finished = True
        self._server = server
        self.socket = server.socket
        self.topic = server.topic
        self.subtopic = subtopic
        self.assigns = assigns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic!r}>"
