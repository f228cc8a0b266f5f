"""Pacer: a node sends no faster than it and the other nodes receive.

Redis closes the connection of a subscriber for which too much data waits (by default 32 MiB), and
all this data is lost. So after half of AHEAD the node sends a mark in the same way as broadcasts.
When AHEAD is reached, it sends no more until the mark has come back, and until every node that
answered earlier marks has answered this one.

::

    {"type": "phx.relay", "v": 1, "do": "mark", "id": str, "from": channel, "node": name}
    {"type": "phx.relay", "v": 1, "do": "marked", "id": str, "node": name}
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin, is_cancelled
from ..logs import get_logger
from ..pubsub.message import NODES, RELAY, VERSION

if TYPE_CHECKING:
    from .node import Node
    from .rpc import NodeRpc

logger = get_logger("phx_protocol.pubsub")

#: most bytes sent and not yet received: an eighth of what Redis keeps for a subscriber, as several
#: nodes send to it
AHEAD = 4 * 1024 * 1024
#: seconds to wait for the answers to a mark; then nodes without an answer are not waited for
MARK_TIMEOUT = 5.0
#: seconds to wait for the answer of a first other node, if none is known; seconds for which "there
#: is no other node" is believed
GRACE = 0.25
ALONE = 5.0


class Pacer:
    """The bytes that one node has sent, and the nodes that have received them."""

    def __init__(self, node: Node, rpc: NodeRpc) -> None:
        self._node = node
        self._rpc = rpc
        self._ahead = 0
        self._asking: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._id = ""  # of the mark that waits for answers
        self._others: set[str] = set()  # other nodes that answer marks
        self._alone_until = 0.0
        self._missing: set[str] = set()  # nodes that have not answered yet
        self._answered = asyncio.Event()

    async def room_for(self, size: int) -> None:
        """Wait until `size` more bytes may be sent, and count them."""
        while not self.has_room(size):
            await asyncio.shield(self._asking_task())

    def has_room(self, size: int) -> bool:
        """Count `size` more bytes and return True, if so many may be sent now."""
        if self._ahead and self._ahead + size > AHEAD:
            return False
        self._ahead += size
        if self._ahead >= AHEAD // 2:
            self._asking_task()
        return True

    def _asking_task(self) -> asyncio.Task[None]:
        """Return a task that ends when all data sent so far has arrived, after MARK_TIMEOUT at most."""
        if self._asking is None:
            self._asking = begin(self._ask(), contextvars.Context())
        return self._asking

    async def _ask(self) -> None:
        sent = self._ahead
        try:
            with self._node.kept_alive(self):
                await self._arrived()
        except (Exception, asyncio.CancelledError):
            if is_cancelled():
                raise
            logger.exception("cannot find out whether sent messages have arrived")
        finally:
            self._ahead -= sent
            self._asking = None

    async def _arrived(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MARK_TIMEOUT):
                address = await self._node.address()
                if address is None or not await self._mark(address):
                    return
                await self._all_answered()
                if not self._others and self._node.loop.time() > self._alone_until:
                    await self._first_other()
        late, self._id = self._missing - {self._node.name}, ""
        self._others -= late
        for name in late:
            logger.warning(
                "%s has not answered in %s seconds: it is gone, or messages to it may be lost",
                name,
                MARK_TIMEOUT,
            )

    async def _mark(self, address: str) -> bool:
        self._id = f"{self._node.name}.{next(self._ids)}"
        self._missing = {self._node.name, *self._others}
        fields = {"id": self._id, "from": address, "node": self._node.name}
        mark = {"type": RELAY, "v": VERSION, "do": "mark", **fields}
        try:
            await self._node.link.cast(NODES, mark)
            if NODES not in self._node.link.groups:
                await self._node.link.send(address, mark)
        except Exception as error:
            self._node.link.report(error)
            return False
        return True

    async def _all_answered(self) -> None:
        while self._missing:
            self._answered.clear()
            await self._answered.wait()

    async def _first_other(self) -> None:
        self._answered.clear()
        try:
            async with asyncio.timeout(GRACE):
                await self._answered.wait()
        except TimeoutError:
            self._alone_until = self._node.loop.time() + ALONE

    def take(self, message: dict[str, Any]) -> None:
        """Handle a mark of this or another node, or another node's answer to a mark of this one."""
        id, name = message["id"], message["node"]
        if message["do"] == "mark" and name != self._node.name:
            self._rpc.answer_mark(message["from"], id)
            return
        if name != self._node.name:
            self._others.add(name)
        if id == self._id:
            self._missing.discard(name)
            self._answered.set()
