"""The sockets of one node, and the commands for them."""

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

from ..auth.credentials import Claim
from ..auth.permissions import Source
from ..auth.users import key_of
from ..concurrency.tasks import CRASHES, must_end
from ..logs import get_logger
from ..wire.reasons import CloseCode, Reason

logger = get_logger("phx_protocol.pubsub")

Body = dict[str, Any]
Command = Callable[[Body], Awaitable[Any] | None]


class OpeningSocket(Protocol):
    """A socket that may open, as a node sees it: see ``socket.opening.Opening``."""

    def disconnect_named(self, name: str) -> None: ...
    def user_disconnected(self, key: str) -> None: ...
    def user_has_changed(self, key: str | None) -> None: ...
    def session_ended(self, digest: str) -> None: ...
    @property
    def key(self) -> str: ...


class OpenSocket(Protocol):
    """An open socket, as its node sees it: see ``socket.connection.Connection``."""

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
    @property
    def claim(self) -> Claim | None: ...
    def close(self, code: int, reason: Reason) -> None: ...
    def cut_off(self, code: int = ..., reason: Reason = ...) -> None: ...
    def close_topic(self, topic: str) -> None: ...
    def reauthorize(self, topic: str | None) -> Coroutine[Any, Any, None]: ...
    def create_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...
    def disconnect_named(self, name: str) -> None: ...
    def has_joined(self, topic: str) -> bool: ...
    def joined(self) -> Sequence[Any]: ...
    def busy(self) -> Sequence[Any]: ...
    def describe(self) -> dict[str, Any]: ...


#: how many sockets of a node are reauthorized at the same time
AT_ONCE = 100


class Connections:
    """The set of open sockets, which executes commands that concern some of them.

    Sockets that are about to open get commands too: those that arrived while ``connect`` ran are
    applied when the socket opens.
    """

    def __init__(self, is_shown: Callable[[str, str], bool]) -> None:
        self._is_shown = is_shown
        self._sockets: set[OpenSocket] = set()
        self._opening: set[OpeningSocket] = set()
        self._ending: set[OpenSocket] = set()
        self._gone = asyncio.Event()
        self._commands: dict[str, Command] = {
            "close_topic": self._close_topic,
            "disconnect": self._disconnect,
            "disconnect_socket": self._disconnect_socket,
            "disconnect_user": self._disconnect_user,
            "replace": self._replace,
            "password_changed": self._password_changed,
            "reauthorize": self._reauthorize,
            "session_ended": self._session_ended,
        }

    def on_command(self, name: str, execute: Command) -> None:
        """Let `execute` execute the command `name`."""
        self._commands[name] = execute

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[OpenSocket]:
        # a copy: sockets may close during the iteration
        return iter(tuple(self._sockets))

    @property
    def are_any(self) -> bool:
        """True if a socket is open or about to open."""
        return bool(self._sockets or self._opening)

    def expect(self, opening: OpeningSocket) -> None:
        """Pass commands to a socket that may open, until ``decided``."""
        self._opening.add(opening)

    def decided(self, opening: OpeningSocket) -> None:
        """Forget an opening: its socket was added, or did not open."""
        self._opening.discard(opening)

    def add(self, socket: OpenSocket) -> None:
        self._sockets.add(socket)

    def discard(self, socket: OpenSocket) -> None:
        """Remove a closed socket, and remember it until its channels have ended."""
        if socket in self._sockets:
            self._sockets.discard(socket)
            self._ending.add(socket)

    def ended(self, socket: OpenSocket) -> None:
        """Forget a closed socket: all its channels have ended."""
        self._ending.discard(socket)
        if not self._ending:
            self._gone.set()

    async def gone(self) -> None:
        """Wait until all sockets are closed and their channels have ended."""
        while self._sockets or self._ending:
            self._gone.clear()
            await self._gone.wait()

    def of_user(self, key: str) -> Iterator[OpenSocket]:
        """Yield the sockets whose user has the primary key `key` (as text)."""
        for socket in self:
            if key_of(socket) == key:
                yield socket

    # ---------------------------------------------------------------- commands

    def execute(self, name: str, body: Body) -> Awaitable[Any] | None:
        """Execute a command at once. A part that takes time is returned, to be awaited.

        Raises KeyError for an unknown command.
        """
        return self._commands[name](body)

    def _close_topic(self, body: Body) -> None:
        each(self, lambda socket: socket.close_topic(body["topic"]))

    def _disconnect(self, body: Body) -> None:
        every: Iterable[Any] = chain(self, tuple(self._opening))
        each(every, lambda socket: socket.disconnect_named(body["id"]))

    def _disconnect_socket(self, body: Body) -> None:
        for socket in self:
            if self._is_shown(socket.key, body["id"]):
                socket.cut_off()

    def _disconnect_user(self, body: Body) -> None:
        for socket in self._opening:
            socket.user_disconnected(body["user"])
        each(self.of_user(body["user"]), lambda socket: socket.cut_off())

    def _replace(self, body: Body) -> None:
        for socket in self:
            if socket.key == body["key"]:
                socket.close(CloseCode.REPLACED, Reason.REPLACED)

    def _password_changed(self, body: Body) -> None:
        def look(socket: OpenSocket) -> None:
            source = socket.source
            if source and source.password and source.password not in body["digests"]:
                socket.cut_off()

        for socket in self._opening:
            socket.user_has_changed(body["user"])
        each(self.of_user(body["user"]), look)

    def _session_ended(self, body: Body) -> None:
        def look(socket: OpenSocket) -> None:
            source = socket.source
            if source and source.session == body["session"]:
                if key_of(socket) != body["user"]:
                    socket.cut_off()

        for socket in self._opening:
            socket.session_ended(body["session"])
        each(self, look)

    def _reauthorize(self, body: Body) -> Awaitable[None]:
        key, topic = body.get("user"), body.get("topic")
        chosen = list(self if key is None else self.of_user(key))
        for socket in self._opening:
            socket.user_has_changed(key)
        return _reauthorize(chosen, topic)


def each(sockets: Iterable[OpenSocket], do: Callable[[OpenSocket], None]) -> None:
    """Call `do` with each of the `sockets`, even if it fails for some. Raises the last of the errors."""
    failure = None
    for socket in sockets:
        try:
            do(socket)
        except Exception as error:
            logger.exception("a socket failed to execute a command")
            failure = error
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # its traceback leads to this frame


async def _reauthorize(sockets: list[OpenSocket], topic: str | None) -> None:
    waiting = iter(sockets)

    async def ask() -> None:
        for socket in waiting:
            try:
                # in a task of the socket, with its context: it calls functions of users
                await socket.create_task(socket.reauthorize(topic))
            except CRASHES as error:
                if must_end(error):
                    raise
                logger.exception("a socket cannot be reauthorized and is closed")
                socket.cut_off()

    # several at the same time, so that a slow one does not delay the others
    await asyncio.gather(*(ask() for _ in sockets[:AT_ONCE]))
