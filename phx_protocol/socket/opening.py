"""Opening: a connection that may open, while ``connect`` decides."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from django.core.signing import BadSignature

from .. import signals
from ..auth.users import key_of
from ..concurrency.tasks import begin
from ..exceptions import ConnectionRefused
from ..logs import get_logger
from ..wire.messages import Message, Reply
from ..wire.serializers import Serializer
from .connection import Connection
from .rights import Rights
from .socket import Socket
from .transport import Transport

if TYPE_CHECKING:
    from ..node.node import Node

logger = get_logger("phx_protocol.socket")


class Opening:
    """A connection before it is open.

    It collects the commands of other processes that arrive while ``connect`` runs: only after
    that it is known whether they concern this user.
    """

    __slots__ = (
        "socket",
        "serializer",
        "transport",
        "node",
        "requested_at",
        "rights",
        "missed",
        "known_key",
        "_context",
    )

    def __init__(
        self,
        socket: Socket,
        serializer: Serializer,
        transport: str,
        node: Node,
        requested_at: float,
    ) -> None:
        self.socket = socket
        self.serializer = serializer
        self.transport = transport  # its name
        self.node = node
        self.requested_at = requested_at
        self.rights = Rights(socket)
        # the commands that arrived before the user was known
        self.missed: set[tuple[str, str | None]] = set()
        #: the id that the connection will have, if somebody has asked for it
        self.known_key: str | None = None
        self._context = contextvars.copy_context()
        socket.__phx__ = self

    @property
    def key(self) -> str:
        """The id that the connection will have."""
        if self.known_key is None:
            self.known_key = self.node.new_id()
        return self.known_key

    def expire_at(self, seconds: float | None) -> None:
        """Let the client be here until then (seconds of the epoch; None: for ever)."""
        self.rights.expires_at = seconds

    def open(self, transport: Transport) -> Connection:
        """Make the connection. From now on it handles frames."""
        connection = Connection(self, transport)
        self.emit_connected("ok")
        self.node.add_connection(connection)
        self.node.connections.decided(self)
        return connection

    def discard(self) -> None:
        """Forget it: the connection does not open."""
        self.node.discard_opening(self)

    def emit_connected(self, result: str) -> None:
        """Send the signal ``socket_connected`` with the `result`: "ok", "refused" or "crashed"."""
        signals.socket_connected.emit(
            type(self.socket),
            socket=self.socket,
            transport=self.transport,
            serializer=type(self.serializer).__name__,
            duration=time.perf_counter() - self.requested_at,
            result=result,
        )

    def push(self, message: Message | Reply) -> None:
        """Raise RuntimeError: nothing can be sent before ``connect`` has accepted the client."""
        raise RuntimeError("nothing can be pushed before the connection is open")

    def create_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return begin(run, self._context.copy())

    async def authenticated(self) -> None:
        """Execute the commands that arrived while ``connect`` ran.

        Raises ConnectionRefused if the client may not be here any more.
        """
        then = key_of(self.socket)
        while self._take_missed():
            self.rights.have_changed()
            await self.rights.are_current()
        now = key_of(self.socket)
        if now != then or ("user", now) in self.missed:
            logger.warning("refused: its user was disconnected while it connected")
            raise ConnectionRefused(403)
        await self._check_token()
        if (end := self.rights.expires_at) is not None and end < time.time():
            logger.warning("refused: its expires_at is over")
            raise ConnectionRefused(403)

    async def _check_token(self) -> None:
        try:
            await self.rights.check()
        except BadSignature as error:
            logger.warning("refused: %s", error)
            raise ConnectionRefused(403) from error

    def _take_missed(self) -> bool:
        """Return True if a command to load this user again has arrived since the last call."""
        if not self.missed:
            return False
        source = self.rights.source
        session = source and source.session
        names = {("look", None), ("look", key_of(self.socket)), ("session", session)}
        found = names & self.missed
        self.missed -= found
        return bool(found)

    # ------------------------------------------------------ commands of a node

    def user_disconnected(self, key: str) -> None:
        """Refuse the client if its user turns out to have the primary key `key`."""
        self.missed.add(("user", key))

    def user_has_changed(self, key: str | None) -> None:
        """Load the user again if its primary key is `key` (None: any key)."""
        self.missed.add(("look", key))

    def session_ended(self, digest: str) -> None:
        """Load the user again if it comes from the session whose key has the digest `digest`."""
        self.missed.add(("session", digest))

    def disconnect_named(self, name: str) -> None:
        """Close the connection when its ``id()`` turns out to be `name`."""
        self.missed.add(("id", name))
