"""Socket: what users subclass to authenticate a connection (``Phoenix.Socket``)."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from ..concurrency.callbacks import (
    AsyncCallable,
    as_method,
    close_stale_connections_if_due,
    definition,
    find,
    is_async,
    settled,
)
from ..conf import options
from ..logs.filters import filter_parameters
from ..logs.printable import bounded
from ..wire.messages import Message
from .connect_info import ConnectInfo

if TYPE_CHECKING:
    from .channel import Channel
    from .connection import Connection
    from .ended import Ended
    from .opening import Opening


class Socket:
    """One connection of a client. Subclass it to authenticate it, name it, or give it other channels.

    An attribute with the name of a setting in lower case (``timeout``, ``check_origin``,
    ``max_channels``, ...) wins over the setting. Mirrors ``Phoenix.Socket``.
    """

    # ---------------------------------------------------------------- for users

    #: topic pattern -> Channel class (or its dotted path, or a pair of it and assigns). The first
    #: pattern that matches wins. None: the setting CHANNELS.
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
        """Authenticate the client. Raise ConnectionRefused to refuse it; the default accepts everybody."""

    def callback_context(
        self, channel: Channel | None, name: str
    ) -> AbstractContextManager[Any]:
        """Return a context manager in which a callback runs; the default has none.

        It is called for each callback that you define: `name` is ``connect`` (`channel` is None),
        ``authorize``, ``join``, ``after_join``, ``handle_in``, ``handle_out``, ``handle_info``,
        ``terminate``, or, for a method with ``@event``, the event. A plain ``def`` runs whole inside
        it, in one thread: what lives on a database connection belongs there. An ``async def`` runs
        inside it on the event loop: for context variables, such as the language. Override it with a
        plain ``def`` (``@contextmanager``). Mirrors ``on_mount`` of Phoenix LiveView.
        """
        return nullcontext()

    #: True if ``callback_context`` sets something that lives on a database connection: then a system
    #: check finds callbacks that are an ``async def``
    callbacks_in_threads: ClassVar[bool] = False

    def id(self) -> str | None:
        """Return a name for this socket and others, such as all of one user, or None.

        ``disconnect(name)`` closes all sockets with that name.
        """
        return None

    @property
    def user(self) -> Any:
        """The user of the connection: that of the session if it can be trusted, else an anonymous one."""
        return self.scope.get("user")

    @property
    def expires_at(self) -> float | None:
        """Until when the client may be here, in seconds of the epoch; None (the default) for ever.

        Set it in ``connect``, or at any time. At that moment the connection is closed with 4401; a
        client that connects later is refused. A TokenSocket sets it from its token.
        """
        return self.__phx__.rights.expires_at

    @expires_at.setter
    def expires_at(self, seconds: float | None) -> None:
        self.__phx__.expire_at(seconds)

    async def aget_user(self) -> Any:
        """Load the user from the database again, and return it; ``user`` is this one from then on.

        Otherwise ``user`` stays as it was at the connect, which may be days ago. If the user was
        deleted or is inactive, the result is an AnonymousUser.
        """
        await self.__phx__.rights.reload_user()
        return self.user

    @functools.cached_property
    def connect_info(self) -> ConnectInfo:
        """The data of the request: ``uri``, ``peer``, ``x_headers``, ``user_agent``, ``trace_headers``."""
        return ConnectInfo(self.scope)

    async def push_to(self, topic: str, event: str, payload: Any) -> None:
        """Send an event to this client on any topic, joined or not."""
        self.__phx__.push(Message(None, None, topic, event, payload))

    # ------------------------------------------------------- the implementation

    # All other names belong to users, so the library adds only names of the form that Python
    # reserves. Behind this one is all that it knows about the connection.
    __phx__: Opening | Connection | Ended

    # True if clients send tokens, which ``read_token`` reads
    __phx_takes_tokens__: ClassVar[bool] = False

    # True if the class has a ``callback_context`` of its own
    __phx_has_context__: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        as_method(cls, "connect", 1)  # it raises TypeError
        cls.__phx_has_context__ = has_context(cls, Socket)

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.params = {}
        self.assigns = {}
        self.auth_token = None

    async def __phx_connect__(self) -> None:
        """Call ``connect``, which may be any kind of callable.

        Raises TypeError for a result that shows that ``connect`` did not run, and for False: to
        refuse a client, it must raise ConnectionRefused.
        """
        close_stale_connections_if_due()
        where = f"{type(self).__name__}.connect"
        answer = await _connect_of(type(self))(self, self.params)
        answer = await settled(answer, where)
        if answer is False:
            raise TypeError(
                f"{where} raises ConnectionRefused to refuse, it returned False"
            )


#: Socket class -> its attribute ``connect``, and what calls it; a test may replace the attribute
_connects: WeakKeyDictionary[type[Socket], tuple[Any, AsyncCallable]]
_connects = WeakKeyDictionary()


def _connect_of(socket_class: type[Socket]) -> AsyncCallable:
    """Return ``connect`` of `socket_class` as an async function."""
    attribute = find(socket_class, "connect")
    known = _connects.get(socket_class)
    if known is None or known[0] is not attribute:
        is_own = attribute is not vars(Socket)["connect"]
        enter = _connecting if is_own and socket_class.__phx_has_context__ else None
        call = as_method(socket_class, "connect", 1, enter=enter)
        known = _connects[socket_class] = attribute, call
    return known[1]


def _connecting(socket: Socket, params: Any) -> AbstractContextManager[Any]:
    return socket.callback_context(None, "connect")


def has_context(owner: type, base: type) -> bool:
    """Return whether `owner` has another ``callback_context`` than `base`. Raises TypeError if it is
    no function that returns a context manager."""
    found = find(owner, "callback_context")
    inner = definition(found)
    if is_async(inner) or inspect.isgeneratorfunction(inner):
        raise TypeError(
            f"{owner.__name__}.callback_context must be a plain def with @contextmanager, or return "
            "a context manager"
        )
    return found is not vars(base)["callback_context"]


def loggable(value: Any, socket: Socket) -> Any:
    """Return `value` as it may be logged: small, without the values of FILTER_PARAMETERS."""
    return filter_parameters(bounded(value), options(type(socket)).filter_parameters)
