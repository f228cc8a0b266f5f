"""Sequence: the order in which broadcasts with an offset are delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..state import Row
from ..wire.messages import Broadcast


class Sequencer:
    """Delivers kept broadcasts of other processes as they arrive, in any order.

    ``history`` has a subclass that keeps broadcasts and delivers them in the order of offsets.
    """

    def __init__(self, deliver: Callable[..., None]) -> None:
        self._deliver_now = deliver

    def append(
        self, history: Any, broadcast: Broadcast, row: Row | None = None
    ) -> asyncio.Future[asyncio.Future[None] | None]:
        """Keep `broadcast`, then deliver it here and queue it for the layer. Raises EncodeError.

        The result is the publisher's future. If the state fails the broadcast is still delivered, and
        the history begins again; but with `row`, which an outbox sends again, the future has a StateError.
        Rows of a topic are kept in their order, each once.
        """
        raise NotImplementedError

    def offer(self, broadcast: Broadcast) -> None:
        """Deliver a broadcast with an offset, from any process, after the ones before it."""
        self._deliver_now(broadcast)

    def warn_if_not_kept(self, broadcast: Broadcast) -> None:
        """Warn about a broadcast that another process sent without keeping it."""

    def resync(self) -> None:
        """Look for broadcasts that did not arrive: messages may have been lost."""
