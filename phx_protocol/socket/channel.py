"""Channel: what users subclass to answer a topic (``Phoenix.Channel``)."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..auth.users import key_of
from ..history import History
from ..logs import get_logger
from ..wire.reasons import Reason, Refusal
from .authorization import reauthorize
from .events import Answer, event
from .membership import Membership
from .refusals import refusals
from .socket import Socket, loggable
from .tables import ChannelTables, tables_in_context

if TYPE_CHECKING:
    from ..pubsub.replies import ReplyRef
    from .server import ChannelServer

__all__ = ["Answer", "Channel", "Reason", "event"]

logger = get_logger("phx_protocol.channel")


class PresenceClass(Protocol):
    """A subclass of Presence: ``enter`` is called after the reply to a client's join."""

    async def enter(self, channel: Any) -> None: ...


class Channel:
    """One client on one topic. Subclass it, and register the subclass for a topic pattern.

    One instance is made for every join. Its callbacks run one at a time, in order. A callback is
    an ``async def``, a plain ``def`` (which runs in a thread), or another callable, such as one
    behind ``database_sync_to_async`` or a decorator; a result that can be awaited is awaited. A
    callback that cannot be called in this way raises TypeError when the class is made. An
    exception in a callback ends this channel only: the client gets ``phx_error`` and joins again.
    """

    # ---------------------------------------------------------------- for users

    #: broadcasts of these events go to ``handle_out``, not directly to the client
    intercepts: ClassVar[Iterable[str]] = frozenset()
    #: levels at which joins and events are logged; None for not at all
    log_join: ClassVar[int | None] = logging.INFO
    log_handle_in: ClassVar[int | None] = logging.DEBUG

    #: who may join: only signed-in users; only users for whom ``user.has_perms`` accepts these
    #: permissions ("app_label.codename", one or several). Others get ``{"reason": "unauthorized"}``,
    #: and ``join`` is not called.
    login_required: ClassVar[bool] = False
    permission_required: ClassVar[str | Iterable[str] | None] = None
    #: how often one client may push to channels of this class: "20/s" (or m, h, d), or event ->
    #: rate, with "*" for all events together and "phx_join" for joins. A push beyond it gets
    #: ``{"reason": "rate limited", "retry_after": seconds}``.
    throttle: ClassVar[str | Mapping[str, str] | None] = None
    #: seconds that a running callback may still take after the socket is gone; None: SHUTDOWN_TIMEOUT
    shutdown_timeout: ClassVar[float | None] = None

    #: which broadcasts are kept for clients that come back or are new; None for none
    history: ClassVar[History | None] = None
    #: event -> the type of its payload, for pushes and broadcasts on topics of this class. Sending a
    #: payload that does not fit raises EncodeError
    pushes: ClassVar[Mapping[str, Any]] = {}
    #: a Presence class: after the join the client gets the presences of the topic, and is tracked itself
    presence: ClassVar[PresenceClass | None] = None

    #: the socket that joined, and the topic it joined
    socket: Socket
    topic: str
    #: the part of the topic that the ``*`` of the pattern stands for; "" if the pattern has none
    subtopic: str
    #: state of this channel: a copy of the socket's assigns, made at the join, updated with the route's
    assigns: dict[str, Any]
    #: the exception that ended the channel, while ``terminate`` runs with ``Reason.CRASH``
    exception: BaseException | None = None

    async def authorize(self) -> bool:
        """Return True if this client may be here, else False.

        It is called before ``join``, and again by ``reauthorize``, after the library has checked
        ``login_required`` and ``permission_required``. The default returns True. It may run at the
        same time as another callback: when you take a right away, that does not wait for a callback.
        """
        return True

    async def join(self, payload: Any) -> Answer:
        """Decide about a join. You must define it: there is no default.

        It is called once, before any other callback except ``authorize``. Return ``"ok"`` or
        ``"error"``, alone or with a reply payload (``("ok", {...})``), or raise JoinDenied. You
        cannot push here: do that in ``after_join``. You can declare types of the payload and of
        the replies, as for an ``@event``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define join(self, payload)"
        )

    async def rewind_from(self, user: Any) -> datetime.datetime | float | None:
        """Return the time since when `user`, that of the socket, may read what the `history` keeps.

        An aware datetime (in a project without USE_TZ also a naive one), or seconds of the epoch. The
        default, None, is any time: who may join may read everything that is kept. It is called after
        the join was accepted, if the client may get some of it: what was kept earlier is neither
        rewound nor recovered. What it raises ends the join, as in ``join``.
        """
        return None

    async def after_join(self) -> None:
        """Called after the reply to the join was sent. Push here what the client needs first."""

    async def handle_in(self, event: str, payload: Any) -> Answer:
        """Handle an event of the client that has no ``@event`` method.

        Return None for no reply, a status (``"ok"``, ``"error"``, any word), or a status with
        a payload. The default replies with an error and logs a warning; in Phoenix the channel
        crashes.
        """
        logger.warning("%s: unhandled event %.100r", self.topic, event)
        refusals.count(Refusal.UNHANDLED_EVENT)
        return "error", {"reason": Refusal.UNHANDLED_EVENT}

    async def handle_out(self, event: str, payload: Any) -> None:
        """Called for each broadcast of an event in `intercepts`. The default pushes it to the client."""
        await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        """Called with messages of ``send_info``, and with broadcasts of other topics.

        The default logs a warning, with the values of FILTER_PARAMETERS masked.
        """
        logger.warning(
            "%s: unhandled message %.100r", self.topic, loggable(message, self.socket)
        )

    async def terminate(self, reason: Reason) -> None:
        """Called once when the channel ends, if ``join`` has returned (even if it denied the join)."""

    def presence_key(self) -> str:
        """Return the key under which `presence` tracks the client: by default the user's primary key,
        or a name of the channel if there is no user.

        It is called on the event loop, so it must not wait.
        """
        return key_of(self.socket) or self.__phx__.id

    def presence_meta(self) -> dict[str, Any]:
        """Return the meta with which `presence` tracks the client; by default the time of its join."""
        return {"online_at": int(time.time())}

    async def push(self, event: str, payload: Any) -> None:
        """Send an event to this client. `payload` is a mapping or ``bytes``.

        Raises EncodeError for a payload that the client's version cannot carry, or that does not
        fit its type in `pushes`; RuntimeError before the join. In ``handle_out``, a binary payload
        for a client with V1 is only logged. Mirrors ``Phoenix.Channel.push/3``.
        """
        payload = self.__phx_tables__.sent(event, payload)
        self.__phx__.push(event, payload)

    async def broadcast(self, event: str, payload: Any) -> None:
        """Send an event to all subscribers of the topic, on every process.

        When this returns, the subscribers of this process have it. If the channel layer fails, that
        is logged and counted, but not raised here. Raises EncodeError as ``push`` does. Mirrors
        ``Phoenix.Channel.broadcast/3``.
        """
        payload = self.__phx_tables__.sent(event, payload)
        await self.__phx__.broadcast(event, payload)

    async def broadcast_from(self, event: str, payload: Any) -> None:
        """Do as ``broadcast``, but leave out this client. Mirrors ``Phoenix.Channel.broadcast_from/3``."""
        payload = self.__phx_tables__.sent(event, payload)
        await self.__phx__.broadcast(event, payload, from_self=True)

    def reply_ref(self) -> ReplyRef:
        """Return a reference to the current event, with which you can reply to it later.

        Pass it to ``phx_protocol.reply`` in any process: it can be pickled. Raises RuntimeError
        if no event is being handled, and for an event that came without a ref. Mirrors
        ``Phoenix.Channel.socket_ref/1``.
        """
        return self.__phx__.reply_ref()

    def send_info(self, message: Any) -> None:
        """Pass `message` to ``handle_info``, after the messages that wait already."""
        self.__phx__.server.send_info(self.__phx__, message)

    async def subscribe(self, topic: str) -> None:
        """Let ``handle_info`` get the broadcasts of another topic as well, until the channel ends."""
        await self.__phx__.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Undo ``subscribe``."""
        self.__phx__.unsubscribe(topic)

    async def stop(self, reason: str = Reason.NORMAL) -> None:
        """End the channel after the running callback and its reply, or at once if none runs.

        For the reasons "normal" and "shutdown" the client gets ``phx_close``, for any other reason
        ``phx_error``. Mirrors ``{:stop, reason, socket}``.
        """
        self.__phx__.stop(str(reason))

    async def reauthorize(self) -> bool:
        """Load the user again, and check whether the client may still be here.

        If it may not, this returns False, the client gets no more broadcasts, and after the running
        callback the channel ends with ``phx_close`` (phoenix.js then does not join again). To check
        from outside of the channel, call ``phx_protocol.reauthorize``.
        """
        return await reauthorize(self)

    @property
    def join_ref(self) -> Any:
        """The join_ref of the channel's replies and pushes: it names the client's join."""
        return self.__phx__.server.channel_join_ref

    @property
    def params(self) -> dict[str, Any]:
        """The connect parameters of the socket, with those of the URL route."""
        return self.socket.params

    # ------------------------------------------------------- the implementation

    # All other names belong to users, so the library adds only two names of the form that Python
    # reserves: one for what it looks up in the class, one for what it keeps about a channel.
    __phx_tables__: ChannelTables
    __phx__: Membership

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__phx_tables__ = ChannelTables(cls)

    def __init__(
        self, server: ChannelServer, subtopic: str, assigns: dict[str, Any]
    ) -> None:
        if not self.__phx_tables__.is_finished:
            type(self).__phx_tables__ = ChannelTables(type(self), is_finished=True)
        self.__phx__ = Membership(server)
        self.socket = server.connection.socket
        if self.socket.__phx_has_context__:
            self.__phx_tables__ = tables_in_context(type(self))
        self.topic = server.topic
        self.subtopic = subtopic
        self.assigns = assigns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic!r}>"


Channel.__phx_tables__ = ChannelTables(Channel)
