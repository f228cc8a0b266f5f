"""The limit of the bytes that may wait for one client, and for how long (setting OUTBOUND)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping


class OutboundLimit:
    """Call `overflowed` when a client is too slow for what it is sent.

    That is when more than `bytes` wait and still do `seconds` later, or as soon as more than
    `hard_bytes` wait. One limit alone would close healthy sockets in a burst of messages.
    """

    __slots__ = (
        "limit",
        "checks",
        "_limits",
        "_pending_bytes",
        "_overflowed",
        "_timer",
    )

    def __init__(
        self,
        limits: Mapping[str, float],
        pending_bytes: Callable[[], int],
        overflowed: Callable[[], None],
    ) -> None:
        self.limit = limits["bytes"]  # with fewer bytes, `check` need not be called
        self.checks = 0  # the calls of `check` since the client fell behind
        self._limits = limits
        self._pending_bytes = pending_bytes
        self._overflowed = overflowed
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Check a client that is behind: end it at once, or look again after `seconds`."""
        self.checks += 1
        if self._pending_bytes() > self._limits["hard_bytes"]:
            self._overflowed()
        elif self._timer is None:
            self.checks = 1
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits["seconds"], self._check_again)

    def _check_again(self) -> None:
        self._timer = None
        if self._pending_bytes() > self.limit:
            self._overflowed()

    def stop(self) -> None:
        self.checks = 0
        # they are methods of this object's owner
        self._pending_bytes, self._overflowed = _nothing, _ignore
        if self._timer is not None:
            self._timer.cancel()


def _nothing() -> int:
    return 0


def _ignore() -> None: ...
