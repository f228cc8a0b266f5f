"""The sockets of one node, and what all nodes are asked to do with theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..channel import Reason
from ..users import key_of
from ..wire.reasons import CloseCode

if TYPE_CHECKING:
    from ..socket import Socket

Body = dict[str, Any]


class Sockets:
    """A set of open sockets, which takes orders that concern some of them."""

    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._ending: set[Socket] = set()
        self._gone = asyncio.Event()
        self.orders: dict[str, Callable[[Body], None]] = {
            "disconnect_socket": self._disconnect_socket,
            "disconnect_user": self._disconnect_user,
            "reauthorize": self._reauthorize,
        }

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[Socket]:
        return iter(tuple(self._sockets))  # as they are now, whatever is done to them

    def add(self, socket: Socket) -> None:
        self._sockets.add(socket)

    def discard(self, socket: Socket) -> None:
        """It is closed, and has channels that end."""
        self._sockets.discard(socket)
        self._ending.add(socket)

    def ended(self, socket: Socket) -> None:
        """It has no channels any more."""
        self._ending.discard(socket)
        if not self._ending:
            self._gone.set()

    async def gone(self) -> None:
        """Wait until all have ended."""
        while self._sockets or self._ending:
            self._gone.clear()
            await self._gone.wait()

    def of_user(self, key: str) -> Iterator[Socket]:
        """The sockets whose user has the primary key `key` (as text)."""
        for socket in self:
            if key_of(socket) == key:
                yield socket

    def _disconnect_socket(self, body: Body) -> None:
        for socket in self:
            if socket.key == body["id"]:
                socket.transport.close(CloseCode.DISCONNECTED, Reason.DISCONNECTED)

    def _disconnect_user(self, body: Body) -> None:
        for socket in self.of_user(body["user"]):
            socket.transport.close(CloseCode.DISCONNECTED, Reason.DISCONNECTED)

    def _reauthorize(self, body: Body) -> None:
        key, topic = body.get("user"), body.get("topic")
        chosen = self if key is None else self.of_user(key)
        for socket in chosen:
            socket.reauthorize(topic)
