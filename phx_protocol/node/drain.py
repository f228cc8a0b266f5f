"""Drain: a node that goes down sends its clients away first (``Phoenix.Socket.PoolDrainer``).

It closes its sockets in rounds with the code 1012, so that clients connect again, to another
process. Running handlers may take SHUTDOWN_TIMEOUT. New connections are refused from the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin
from ..conf import DRAINER, options
from ..signals import socket_drain
from ..wire.reasons import CloseCode, Reason
from .connections import OpenSocket

if TYPE_CHECKING:
    from .node import Node


#: seconds that the state has to take what parts still write
SETTLED = 2.0


class Drainer:
    """The draining of one node, which runs only once at a time (setting DRAINER)."""

    def __init__(self, node: Node) -> None:
        #: True if new connections are refused
        self.is_on = False
        self._node = node
        self._task: asyncio.Task[int] | None = None
        node.rpc.on_call("drain", self._on_call)

    async def run(self) -> int:
        """Close all sockets, in rounds; return how many there were. Draining continues when cancelled."""
        if self._task is None:
            self._switch(True)
            self._task = begin(self._run())
            self._task.add_done_callback(self._done)
        return await asyncio.shield(self._task)

    async def drain_now(self) -> None:
        """Close all sockets at once, without rounds: there is no time for these, or there are few sockets."""
        self._switch(True)
        self._close(self._node.connections)
        await self._gone()

    def resume(self) -> None:
        """Accept connections again."""
        self._switch(False)
        for part in self._node.parts:
            part.resumed()

    def _switch(self, is_on: bool) -> None:
        self.is_on = is_on
        # keep listening while drained, or the command to resume could not reach this node
        (self._node.keep_alive if is_on else self._node.let_go)(self)
        self._node.beat_soon()  # the state then shows it to other nodes

    def _done(self, task: asyncio.Task[int]) -> None:
        self._task = None

    async def _run(self) -> int:
        sockets = list(self._node.connections)
        # so that a topic does not lose all its clients in one round
        random.shuffle(sockets)
        total, drainer = len(sockets), options().drainer or DRAINER
        interval = drainer["BATCH_INTERVAL"]
        size = max(drainer["BATCH_SIZE"], ceil(total * interval / drainer["SHUTDOWN"]))
        rounds = ceil(total / size)
        for index in range(1, rounds + 1):
            batch = sockets[(index - 1) * size : index * size]
            fields = {"index": index, "rounds": rounds, "interval": interval}
            count = min(index * size, total)
            socket_drain.emit(None, count=count, total=total, **fields)
            self._close(batch)
            if index < rounds:
                # jitter, so that nodes that go down together do not close sockets in step
                await asyncio.sleep(interval * random.uniform(0.5, 1))
        await self._gone()
        return total

    @staticmethod
    def _close(sockets: Iterable[OpenSocket]) -> None:
        for socket in sockets:
            socket.close(CloseCode.COME_BACK, Reason.DRAINING)

    async def _gone(self) -> None:
        """Wait until the last channel has ended and all messages to other nodes are sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * options().shutdown_timeout + 1):
                await self._node.connections.gone()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED):
                for part in self._node.parts:
                    await part.settled()
        await self._node.rpc.settled()

    async def _on_call(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["resume"]:
            self.resume()
            return {"sockets": len(self._node.connections)}
        return {"sockets": await self.run()}
