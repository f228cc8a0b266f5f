"""Channel: what users subclass to answer a topic (``Phoenix.Channel``)."""

from __future__ import annotations

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
from .tables import ChannelTables

if TYPE_CHECKING:
    from ..pubsub.replies import ReplyRef
    from .server import ChannelServer

__all__ = ["Answer", "Channel", "Reason", "event"]

logger = get_logger("phx_protocol.channel")


class PresenceClass(Protocol):
    """A subclass of Presence: ``enter`` is called when the join of a client has been answered."""

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

    #: who may join: signed-in users; users with these permissions ("app_label.codename", one
    #: or several), as ``user.has_perms`` says. Others are answered ``{"reason": "unauthorized"}``, ``join`` is not called.
    login_required: ClassVar[bool] = False
    permission_required: ClassVar[str | Iterable[str] | None] = None
    #: how often one client may push to channels of this class: "20/s" (or m, h, d), or event ->
    #: rate, with "*" for all events together and "phx_join" for joins. What is beyond it is
    #: answered ``{"reason": "rate limited", "retry_after": seconds}``.
    throttle: ClassVar[str | Mapping[str, str] | None] = None
    #: seconds that a running callback gets when the socket is gone; None: SHUTDOWN_TIMEOUT
    shutdown_timeout: ClassVar[float | None] = None

    #: which broadcasts are kept for clients that come back; None for none
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
        """Return True if this client may be here: called before ``join``, and again by ``reauthorize``.

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
        refusals.count(Refusal.UNHANDLED_EVENT)
        return "error", {"reason": Refusal.UNHANDLED_EVENT}

    async def handle_out(self, event: str, payload: Any) -> None:
        """Called for each broadcast of an event in `intercepts`: ``push`` it on, changed or not."""
        await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        """Called with what ``send_info`` sent and with broadcasts of further topics.

        The default logs a warning, with the values of FILTER_PARAMETERS masked.
        """
        logger.warning(
            "%s: unhandled message %.100r", self.topic, loggable(message, self.socket)
        )

    async def terminate(self, reason: Reason) -> None:
        """Called once when the channel ends, if ``join`` returned (a denied one included)."""

    def presence_key(self) -> str:
        """Under which key `presence` tracks the client: its user, or the channel if it has none.

        Called on the event loop: it must not wait.
        """
        return key_of(self.socket) or self.__phx__.id

    def presence_meta(self) -> dict[str, Any]:
        """Return what `presence` shows of the client; the default is when it came, in seconds."""
        return {"online_at": int(time.time())}

    async def push(self, event: str, payload: Any) -> None:
        """Send an event to this client. `payload` is a mapping or ``bytes``.

        Raises EncodeError for what the client cannot be sent or `pushes` declares otherwise,
        RuntimeError before the join. In ``handle_out`` a client with V1 is left out of what is
        binary, with a line in the log. Mirrors ``Phoenix.Channel.push/3``.
        """
        payload = self.__phx_tables__.sent(event, payload)
        self.__phx__.push(event, payload)

    async def broadcast(self, event: str, payload: Any) -> None:
        """Send an event to all subscribers of the topic, on every process.

        Those of this process have it when this returns. A channel layer that is down is logged
        and counted, never raised here. Raises EncodeError as ``push`` does. Mirrors
        ``Phoenix.Channel.broadcast/3``.
        """
        payload = self.__phx_tables__.sent(event, payload)
        await self.__phx__.broadcast(event, payload)

    async def broadcast_from(self, event: str, payload: Any) -> None:
        """Send an event as ``broadcast`` does, to all but this client. Mirrors ``Phoenix.Channel.broadcast_from/3``."""
        payload = self.__phx_tables__.sent(event, payload)
        await self.__phx__.broadcast(event, payload, from_self=True)

    def reply_ref(self) -> ReplyRef:
        """A value (it can be pickled) to answer the event being handled later.

        Hand it to ``phx_protocol.reply`` anywhere. Raises RuntimeError outside ``handle_in``
        and for an event that came without a ref. Mirrors ``Phoenix.Channel.socket_ref/1``.
        """
        return self.__phx__.reply_ref()

    def send_info(self, message: Any) -> None:
        """Put `message` behind the channel's other mail; ``handle_info`` gets it."""
        self.__phx__.server.send_info(self.__phx__, message)

    async def subscribe(self, topic: str) -> None:
        """Have broadcasts of a further topic come to ``handle_info``, until the channel ends."""
        await self.__phx__.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """The end of ``subscribe``."""
        self.__phx__.unsubscribe(topic)

    async def stop(self, reason: str = Reason.NORMAL) -> None:
        """End the channel after the running callback, whose reply goes out first; at once if none runs.

        For the reasons "normal" and "shutdown" the client gets ``phx_close``; for any other
        ``phx_error``. Mirrors ``{:stop, reason, socket}``.
        """
        self.__phx__.stop(str(reason))

    async def reauthorize(self) -> bool:
        """Ask again whether the client may be here, with its user as the database has it now.

        If not, no broadcast is delivered to it any more, it ends after the running callback with
        ``phx_close`` (on which phoenix.js stays away), and this returns False. From elsewhere:
        ``phx_protocol.reauthorize``.
        """
        return await reauthorize(self)

    @property
    def join_ref(self) -> Any:
        """The ref that ties this channel to the client's join."""
        return self.__phx__.server.channel_join_ref

    @property
    def params(self) -> dict[str, Any]:
        """The parameters the socket connected with, those of the URL route included."""
        return self.socket.params

    # ------------------------------------------------------- the implementation

    # All other names belong to users, so the library adds only names such as Python
    # reserves: one for all that it looks up of the class, one for all that it keeps of a channel.
    __phx_tables__: ClassVar[ChannelTables]
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
        self.topic = server.topic
        self.subtopic = subtopic
        self.assigns = assigns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic!r}>"


Channel.__phx_tables__ = ChannelTables(Channel)
