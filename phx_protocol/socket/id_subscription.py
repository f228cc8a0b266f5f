"""IdSubscription: what closes a connection by the name that ``Socket.id()`` gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..concurrency.callbacks import settled
from ..wire.messages import Broadcast

if TYPE_CHECKING:
    from .connection import Connection


class IdSubscription:
    """The subscription of a connection to ``Socket.id()``: a broadcast "disconnect" closes it.

    Until the id is known it collects the names that commands disconnect, beginning with those that
    the Opening has collected.
    """

    __slots__ = ("_connection", "name", "_missed", "_is_over")

    fastlane = None

    def __init__(
        self, connection: Connection, missed: set[tuple[str, str | None]]
    ) -> None:
        self._connection = connection
        self.name: str | None = None
        self._missed: set[tuple[str, str | None]] | None = missed
        self._is_over = False

    async def subscribe(self) -> bool:
        """Get the id from the socket, and subscribe to it. Return False if there is none.

        Raises TypeError if the id is not a string.
        """
        connection = self._connection
        socket, node = connection.socket, connection.node
        name = await settled(socket.id())
        if name is None:
            return False
        if not isinstance(name, str):
            raise TypeError(
                f"{type(socket).__name__}.id() must return a string or None, not {name!r}"
            )
        await node.ready(name)
        if not self._is_over:  # the connection may have been closed meanwhile
            self.name = name
            node.pubsub.subscribe(name, self)
            missed, self._missed = self._missed, None
            if missed and ("id", name) in missed:
                connection.cut_off()
        return True

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        if broadcast.event == "disconnect":
            self._connection.cut_off()

    def disconnect_named(self, name: str) -> None:
        """Close the connection if the id is `name`, now or when the id is known."""
        if self.name == name:
            self._connection.cut_off()
        elif self._missed is not None:
            self._missed.add(("id", name))

    def end(self) -> None:
        self._is_over = True
        if self.name is not None:
            self._connection.node.pubsub.unsubscribe(self.name, self)
