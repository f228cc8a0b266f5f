"""Sequence: the order in which broadcasts with an offset are delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..wire.messages import Broadcast


class Sequencer:
    """Delivers kept broadcasts of other processes as they arrive, in any order.

    ``history`` has a subclass that keeps broadcasts and delivers them in the order of offsets.
    """

    def __init__(self, deliver: Callable[..., None]) -> None:
        self._deliver_now = deliver

    async def broadcast(
        self, history: Any, broadcast: Broadcast
    ) -> asyncio.Future[None] | None:
        """Keep `broadcast`, deliver it here, queue it for the layer; return the publisher's future."""
        raise NotImplementedError

    def offer(self, broadcast: Broadcast) -> None:
        """Deliver a broadcast with an offset, from any process, after the ones before it."""
        self._deliver_now(broadcast)

    def warn_if_not_kept(self, broadcast: Broadcast) -> None:
        """Warn about a broadcast that another process sent without keeping it."""

    def resync(self) -> None:
        """Look for broadcasts that did not arrive: messages may have been lost."""
