"""The objects that take the place of a connection and its transport when these have ended.

The old ones refer to each other: if a Socket still led to them, they would stay until a full run of
the garbage collector, with all that the client sent in its request.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin
from ..wire.messages import Frame, Message, Reply
from ..wire.reasons import Reason
from .rights import Rights

if TYPE_CHECKING:
    from .socket import Socket


class Ended:
    """Takes the place of the Connection of a Socket: what the Socket pushes now goes nowhere."""

    __slots__ = ("_socket",)

    def __init__(self, socket: Socket) -> None:
        self._socket = weakref.ref(socket)

    @property
    def rights(self) -> Rights:
        socket = self._socket()
        assert socket is not None  # it has called us
        return Rights(socket)

    def push(self, message: Message | Reply) -> None:
        """Send nothing."""

    def expire_at(self, seconds: float | None) -> None:
        """Do nothing: it has ended."""

    def create_task(self, run: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return begin(run)


class ClosedTransport:
    """The transport of a connection that has ended."""

    name = "closed"

    @staticmethod
    def prepare(frame: Frame) -> Any:
        return frame

    def write(self, prepared: Any) -> None:
        """Send nothing."""

    def close(self, code: int, reason: Reason) -> None:
        """Do nothing: it is closed."""

    def pending_bytes(self) -> int:
        return 0

    def last_seen(self) -> float:
        return time.time()


CLOSED = ClosedTransport()
