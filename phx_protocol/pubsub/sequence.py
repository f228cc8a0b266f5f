"""Sequence: in which order broadcasts that have an offset are delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..wire.messages import Broadcast


class Sequencer:
    """Delivers as they come those that other processes kept; ``history`` has one that keeps some.

    A process that knows no channel with a history has no more than this.
    """

    def __init__(self, deliver: Callable[..., None]) -> None:
        self._deliver_now = deliver

    async def broadcast(
        self, history: Any, broadcast: Broadcast
    ) -> asyncio.Future[None] | None:
        """Keep, deliver here, and queue for the layer; the publisher's future is returned."""
        raise NotImplementedError

    def offer(self, broadcast: Broadcast) -> None:
        """Deliver a broadcast with an offset, from wherever, when its turn comes."""
        self._deliver_now(broadcast)

    def warn_if_not_kept(self, broadcast: Broadcast) -> None:
        """Warn about a broadcast that another process sent without keeping it."""

    def resync(self) -> None:
        """Look for more than what came: messages may have been lost."""
