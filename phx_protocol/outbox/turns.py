"""Turns: read and send, until nothing is left."""

from __future__ import annotations

import time

from django.db import router

from ..exceptions import BroadcastError
from ..node.node import get_node
from .leases import Leases
from .models import Message
from .rows import Batch, Rows
from .sending import Outcome, Sender

#: seconds for which the turns have the partitions
LEASE = 60.0


class Turns:
    """Reads and sends in turns, until nothing is left."""

    def __init__(self, using: str | None) -> None:
        self._leases = Leases(using or router.db_for_write(Message), LEASE)
        self._rows = Rows(self._leases)
        self._last = Outcome()
        self.sent = 0

    def read(self) -> Batch:
        if not self._leases.held:
            self._leases.renew(wants_all=True)
        last = self._last
        return self._rows.next(self._leases.held, last.sent, last.aside)

    async def send(self, batch: Batch) -> None:
        """Send a batch. Raises BroadcastError."""
        sender = Sender(get_node())
        self._last = await sender.send(batch.rows, time.monotonic() + LEASE / 2)
        self.sent += len(self._last.sent)
        if self._last.unsent:
            raise BroadcastError(f"{len(self._last.unsent)} topics could not be sent")

    def leave(self) -> None:
        self._rows.next(frozenset(), self._last.sent, self._last.aside)
        self._leases.leave()
