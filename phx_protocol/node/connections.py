"""The sockets of one node, and what all nodes are asked to do with theirs."""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import chain
from typing import Any, Protocol

from ..auth.permissions import Source
from ..auth.users import key_of
from ..concurrency.tasks import CRASHES, must_end
from ..logs import get_logger
from ..wire.reasons import Reason

logger = get_logger("phx_protocol.pubsub")

Body = dict[str, Any]


class OpeningSocket(Protocol):
    """What a node asks of a socket that may open: see ``socket.opening.Opening``."""

    def disconnect_named(self, name: str) -> None: ...
    def user_disconnected(self, key: str) -> None: ...
    def look_again(self, key: str | None) -> None: ...
    def session_ended(self, digest: str) -> None: ...


class OpenSocket(Protocol):
    """What a node asks of the sockets that it serves: see ``socket.connection.Connection``."""

    @property
    def socket(self) -> Any: ...
    @property
    def user(self) -> Any: ...
    @property
    def key(self) -> str: ...
    @property
    def transport(self) -> Any: ...
    @property
    def source(self) -> Source | None: ...
    def close(self, code: int, reason: Reason) -> None: ...
    def cut_off(self) -> None: ...
    def close_topic(self, topic: str) -> None: ...
    def reauthorize(self, topic: str | None) -> Coroutine[Any, Any, None]: ...
    def create_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...
    def disconnect_named(self, name: str) -> None: ...
    def has_joined(self, topic: str) -> bool: ...
    def joined(self) -> Sequence[Any]: ...
    def busy(self) -> Sequence[Any]: ...
    def describe(self) -> dict[str, Any]: ...


#: sockets of a node that ask again at once whether their clients may be there
AT_ONCE = 100


class Connections:
    """A set of open sockets, which takes orders that concern some of them.

    Those that are about to open hear of orders too: what was ordered while ``connect`` ran is
    looked at when they open.
    """

    def __init__(self, is_shown: Callable[[str, str], bool]) -> None:
        self._is_shown = is_shown
        self._sockets: set[OpenSocket] = set()
        self._opening: set[OpeningSocket] = set()
        self._ending: set[OpenSocket] = set()
        self._gone = asyncio.Event()
        self._orders: dict[str, Callable[[Body], Awaitable[Any] | None]] = {
            "close_topic": self._close_topic,
            "disconnect": self._disconnect,
            "disconnect_socket": self._disconnect_socket,
            "disconnect_user": self._disconnect_user,
            "password_changed": self._password_changed,
            "reauthorize": self._reauthorize,
            "session_ended": self._session_ended,
        }

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[OpenSocket]:
        return iter(tuple(self._sockets))  # as they are now, whatever is done to them

    @property
    def are_any(self) -> bool:
        """Whether a socket is open, or about to be."""
        return bool(self._sockets or self._opening)

    def expect(self, opening: OpeningSocket) -> None:
        """Have commands reach a socket that may open, until ``decided``."""
        self._opening.add(opening)

    def decided(self, opening: OpeningSocket) -> None:
        """Forget an opening: its socket has been added, or did not open."""
        self._opening.discard(opening)

    def add(self, socket: OpenSocket) -> None:
        self._sockets.add(socket)

    def discard(self, socket: OpenSocket) -> None:
        """Let go of a socket that is closed, and has channels that end."""
        if socket in self._sockets:
            self._sockets.discard(socket)
            self._ending.add(socket)

    def ended(self, socket: OpenSocket) -> None:
        """It has no channels any more."""
        self._ending.discard(socket)
        if not self._ending:
            self._gone.set()

    async def gone(self) -> None:
        """Wait until all have ended."""
        while self._sockets or self._ending:
            self._gone.clear()
            await self._gone.wait()

    def of_user(self, key: str) -> Iterator[OpenSocket]:
        """The sockets whose user has the primary key `key` (as text)."""
        for socket in self:
            if key_of(socket) == key:
                yield socket

    # ------------------------------------------------------------------ orders

    def obey(self, name: str, body: Body) -> Awaitable[Any] | None:
        """Do what is ordered at once, but for what is awaited. Raises KeyError for no order."""
        return self._orders[name](body)

    def _close_topic(self, body: Body) -> None:
        _each(self, lambda socket: socket.close_topic(body["topic"]))

    def _disconnect(self, body: Body) -> None:
        every: Iterable[Any] = chain(self, tuple(self._opening))
        _each(every, lambda socket: socket.disconnect_named(body["id"]))

    def _disconnect_socket(self, body: Body) -> None:
        for socket in self:
            if self._is_shown(socket.key, body["id"]):
                socket.cut_off()

    def _disconnect_user(self, body: Body) -> None:
        for socket in self._opening:
            socket.user_disconnected(body["user"])
        _each(self.of_user(body["user"]), lambda socket: socket.cut_off())

    def _password_changed(self, body: Body) -> None:
        def look(socket: OpenSocket) -> None:
            source = socket.source
            if source and source.password and source.password not in body["digests"]:
                socket.cut_off()

        for socket in self._opening:
            socket.look_again(body["user"])
        _each(self.of_user(body["user"]), look)

    def _session_ended(self, body: Body) -> None:
        def look(socket: OpenSocket) -> None:
            source = socket.source
            if source and source.session == body["session"]:
                if key_of(socket) != body["user"]:
                    socket.cut_off()

        for socket in self._opening:
            socket.session_ended(body["session"])
        _each(self, look)

    def _reauthorize(self, body: Body) -> Awaitable[None]:
        key, topic = body.get("user"), body.get("topic")
        chosen = list(self if key is None else self.of_user(key))
        for socket in self._opening:
            socket.look_again(key)
        return _reauthorize(chosen, topic)


def _each(sockets: Iterable[OpenSocket], do: Callable[[OpenSocket], None]) -> None:
    """Do it with each of the `sockets`, whatever comes of it with another one. Raises what it raised."""
    failure = None
    for socket in sockets:
        try:
            do(socket)
        except Exception as error:
            logger.exception("a socket does not do what it is ordered")
            failure = error
    if failure is not None:
        raise failure


async def _reauthorize(sockets: list[OpenSocket], topic: str | None) -> None:
    waiting = iter(sockets)

    async def ask() -> None:
        for socket in waiting:
            try:
                # in its own context: it calls what users wrote
                await socket.create_task(socket.reauthorize(topic))
            except CRASHES as error:
                if must_end(error):
                    raise
                logger.exception("a socket cannot be asked again: it is closed")
                socket.cut_off()

    # one that takes its time holds up nobody behind it
    await asyncio.gather(*(ask() for _ in sockets[:AT_ONCE]))
