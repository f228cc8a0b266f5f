"""Socket: what users subclass to authenticate a connection (``Phoenix.Socket``)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..concurrency.callbacks import as_method, close_stale_connections_if_due, settled
from ..conf import options
from ..logs.filters import filter_parameters
from ..logs.printable import bounded
from ..wire.messages import Message
from .connect_info import ConnectInfo

if TYPE_CHECKING:
    from .connection import Connection
    from .opening import Opening


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
        await self.__phx__.rights.reload_user()
        return self.user

    @functools.cached_property
    def connect_info(self) -> ConnectInfo:
        """The data of the request: ``uri``, ``peer``, ``x_headers``, ``user_agent``, ``trace_headers``."""
        return ConnectInfo(self.scope)

    async def push_to(self, topic: str, event: str, payload: Any) -> None:
        """Send an event on any topic, joined or not, to this client."""
        self.__phx__.push(Message(None, None, topic, event, payload))

    # ------------------------------------------------------- the implementation

    # All other names belong to users, so the library adds only names such as Python
    # reserves. All that it knows of a connection is behind this one.
    __phx__: Opening | Connection

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        as_method(cls, "connect", 1)  # it raises TypeError

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.params = {}
        self.assigns = {}
        self.auth_token = None

    async def __phx_connect__(self) -> None:
        """Call ``connect``, which may be any kind of callable.

        Raises TypeError when it returns something: nobody is let in by a ``connect`` that has not
        run, or that says no in a way of its own (``return False``).
        """
        close_stale_connections_if_due()
        where = f"{type(self).__name__}.connect"
        answer = await as_method(type(self), "connect", 1)(self, self.params)
        answer = await settled(answer, where)
        if answer is False:
            raise TypeError(
                f"{where} raises ConnectionRefused to refuse, it returned False"
            )


def loggable(value: Any, socket: Socket) -> Any:
    """Return `value` as it may be logged: small, without the values of FILTER_PARAMETERS."""
    return filter_parameters(bounded(value), options(type(socket)).filter_parameters)
