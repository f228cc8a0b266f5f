"""Transport: the protocol of the transport below a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..wire.messages import Frame
from ..wire.reasons import Reason


class Transport(Protocol):
    """A transport of the frames of one connection. None of its methods waits."""

    name: str

    @property
    def prepare(self) -> Callable[[Frame], Any]:
        """The function that converts a frame for ``write``; several connections may share its result."""

    def write(self, prepared: Any) -> None:
        """Send a prepared frame, or keep it until the client takes it."""

    def close(self, code: int, reason: Reason) -> None:
        """Close the connection with `code`; its channels end with `reason`."""

    def pending_bytes(self) -> int:
        """Return the bytes that wait for the client."""

    def last_seen(self) -> float:
        """Return when the client last sent something, in seconds of the epoch."""
