"""ConnectRates: how often an address may connect, to all processes together (CONNECT_RATE)."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..exceptions import StateError
from ..node.part import Part
from ..socket.throttle import Rate, Throttle

if TYPE_CHECKING:
    from ..node.node import Node

#: how many addresses a process counts while the state is away
MOST = 10_000


class ConnectRates(Part):
    """The rates of one node: the state counts; while it is away each process does."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._own: OrderedDict[str, Throttle] = OrderedDict()

    async def wait(self, address: str, rate: Rate) -> float:
        """Return the seconds until `address` may connect once more; if it is 0, that was counted."""
        beat = self.node.heartbeat_of(address)
        try:
            with beat.state_call():
                return await beat.state.rate(address, rate.times, rate.seconds)
        except StateError:
            return self._wait_here(address, rate)

    def _wait_here(self, address: str, rate: Rate) -> float:
        throttle = self._own.pop(address, None)
        if throttle is None or throttle.rate != rate:
            throttle = Throttle(rate)
        self._own[address] = throttle
        if len(self._own) > MOST:
            self._own.popitem(last=False)
        now = time.monotonic()
        wait = throttle.wait(now)
        if not wait:
            throttle.take(now)
        return wait
