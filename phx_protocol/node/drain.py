"""Drain: a node that goes down sends its clients away first (``Phoenix.Socket.PoolDrainer``).

Sockets are closed in rounds with 1012, on which clients come back, to another process;
handlers that run get SHUTDOWN_TIMEOUT. New connections are refused from the beginning.
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


class Drainer:
    """The draining of one node, one at a time whoever asks for it (setting DRAINER)."""

    def __init__(self, node: Node) -> None:
        #: whether new connections are refused
        self.is_on = False
        self._node = node
        self._task: asyncio.Task[int] | None = None
        node.rpc.on_call("drain", self._asked)

    async def run(self) -> int:
        """Close all sockets, in rounds; returns how many there were. Goes on when cancelled."""
        if self._task is None:
            self._switch(True)
            self._task = begin(self._run())
            self._task.add_done_callback(self._done)
        return await asyncio.shield(self._task)

    async def drain_now(self) -> None:
        """Close all sockets, without rounds: it is too late for them, or there are few."""
        self._switch(True)
        self._close(self._node.connections)
        await self._gone()

    def resume(self) -> None:
        """Let connections in again."""
        self._switch(False)

    def _switch(self, is_on: bool) -> None:
        self.is_on = is_on
        # who has no sockets any more must still hear that it shall take up again
        (self._node.keep_alive if is_on else self._node.let_go)(self)
        self._node.heartbeat.beat_soon()  # which tells the other nodes

    def _done(self, task: asyncio.Task[int]) -> None:
        self._task = None

    async def _run(self) -> int:
        sockets = list(self._node.connections)
        random.shuffle(sockets)  # so that no topic is left alone all at once
        total, drainer = len(sockets), options().drainer or DRAINER
        interval = drainer["BATCH_INTERVAL"]
        size = max(drainer["BATCH_SIZE"], ceil(total * interval / drainer["SHUTDOWN"]))
        rounds = ceil(total / size)
        for index in range(1, rounds + 1):
            batch = sockets[(index - 1) * size : index * size]
            told = {"index": index, "rounds": rounds, "interval": interval}
            count = min(index * size, total)
            socket_drain.emit(None, count=count, total=total, **told)
            self._close(batch)
            if index < rounds:
                # nodes that go down together shall not all drop theirs in step
                await asyncio.sleep(interval * random.uniform(0.5, 1))
        await self._gone()
        return total

    @staticmethod
    def _close(sockets: Iterable[OpenSocket]) -> None:
        for socket in sockets:
            socket.close(CloseCode.COME_BACK, Reason.DRAINING)

    async def _gone(self) -> None:
        """Wait until the last channel has ended, and what it had to say is said."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * options().shutdown_timeout + 1):
                await self._node.connections.gone()
        await self._node.rpc.settled()

    async def _asked(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["resume"]:
            self.resume()
            return {"sockets": len(self._node.connections)}
        return {"sockets": await self.run()}
