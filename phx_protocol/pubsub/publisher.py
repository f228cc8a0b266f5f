"""Publisher: the ordered queue of broadcasts from this node to the channel layer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..concurrency.tasks import begin, is_cancelled
from ..exceptions import BroadcastError
from ..logs.printable import describe
from ..signals import messages_dropped
from ..wire.messages import Broadcast
from . import message
from .message import group_name

#: so many broadcasts, or bytes, may wait for the layer; with more, senders have to wait as well
OUTBOX = 1000
OUTBOX_BYTES = 8 * 1024 * 1024
#: most bytes that may wait for the layer; further broadcasts are dropped
LIMIT = 256 * 1024 * 1024
#: most broadcasts in one message, and their bytes
BATCH = 1000
BATCH_BYTES = 256 * 1024


class Entry(NamedTuple):
    """A waiting broadcast, as an item of a message."""

    item: dict[str, Any]
    size: int
    done: asyncio.Future[None]
    #: whether the sender keeps it, and sends it again if the layer does not accept it
    is_kept: bool = False


class Pacer(Protocol):
    """Limits what a node sends to what the other nodes have received."""

    def has_room(self, size: int) -> bool:
        """Count `size` more bytes and return True, if so many may be sent now."""

    async def room_for(self, size: int) -> None:
        """Wait until `size` more bytes may be sent, and count them."""


class Publisher:
    """Sends broadcasts in order for each topic; those that wait for a topic share one message."""

    def __init__(
        self,
        layer: Any,
        node: str,
        report: Callable[[BaseException | None], None],
        pacer: Pacer | None = None,
    ) -> None:
        self.layer = layer
        self.node = node
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._pacer = pacer
        # topic -> its waiting broadcasts; the topic that waits longest is first
        self._outbox: dict[str, deque[Entry]] = {}
        self._waiting = 0
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        return self._waiting >= OUTBOX or self._bytes >= OUTBOX_BYTES

    def publish(self, broadcast: Broadcast) -> asyncio.Future[None]:
        """Queue `broadcast`. The future is done when the layer accepted it, or has a BroadcastError.

        Raises EncodeError for text with lone surrogates.
        """
        item = message.pack_item(broadcast)
        size = message.size_of(broadcast)
        done: asyncio.Future[None] = self._loop.create_future()
        if self._bytes + size > LIMIT:
            error = BroadcastError(f"{self._bytes} bytes wait for the channel layer")
            self._fail([Entry(item, size, done)], error)
            return done
        self._bytes += size
        self._take(broadcast.topic, Entry(item, size, done))
        return done

    async def publish_together(self, broadcasts: Sequence[Broadcast]) -> None:
        """Send broadcasts of one topic in one message, before those that wait. Raises BroadcastError."""
        batch: list[Entry] = []
        for broadcast in broadcasts:
            item, size = message.pack_item(broadcast), message.size_of(broadcast)
            batch.append(Entry(item, size, self._loop.create_future(), is_kept=True))
        self._bytes += sum(entry.size for entry in batch)
        await self._try(broadcasts[0].topic, batch)
        await batch[0].done

    def _take(self, topic: str, entry: Entry) -> None:
        """Queue `entry`."""
        self._outbox.setdefault(topic, deque()).append(entry)
        self._waiting += 1
        if self._task is None:
            self._task = begin(self._run())

    async def _run(self) -> None:
        try:
            while self._outbox:
                await self._send_next()
        finally:
            self._task = None

    async def _send_next(self) -> None:
        await self._try(*self._next_batch())

    async def _try(self, topic: str, batch: list[Entry]) -> None:
        try:
            if self._pacer is not None:
                await self._pacer.room_for(sum(entry.size for entry in batch))
            await self._send(topic, batch)
        except (Exception, asyncio.CancelledError) as error:
            self._answered(batch, error)
            if is_cancelled():
                raise

    async def _send(self, topic: str, batch: list[Entry]) -> None:
        await self.layer.group_send(group_name(topic), self._message(batch))
        self._answered(batch, None)

    def _message(self, batch: list[Entry]) -> dict[str, Any]:
        return message.pack([entry.item for entry in batch], self.node)

    def _answered(self, batch: list[Entry], answer: Any) -> None:
        """Note that the layer has accepted `batch`, or the error if `answer` is one."""
        error = answer if isinstance(answer, BaseException) else None
        self._bytes -= sum(entry.size for entry in batch)
        self._report(error)
        if error is not None:
            reason = f"the channel layer did not take it: {describe(error)}"
            return self._fail(batch, BroadcastError(reason))
        for entry in batch:
            if not entry.done.done():
                entry.done.set_result(None)

    def _next_batch(self) -> tuple[str, list[Entry]]:
        """Return the topic that waits longest, and its next broadcasts."""
        topic = next(iter(self._outbox))
        entries = self._outbox.pop(topic)
        batch: list[Entry] = []
        size = 0
        while entries and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(entries.popleft())
            size += batch[-1].size
        if entries:
            self._outbox[topic] = entries  # behind the others
        self._waiting -= len(batch)
        return topic, batch

    def _fail(self, batch: list[Entry], error: BroadcastError) -> None:
        if lost := sum(not entry.is_kept for entry in batch):
            messages_dropped.emit(None, count=lost, where="layer")
        for entry in batch:
            if not entry.done.done():
                entry.done.set_exception(error)
                # it is counted and logged already: no warning if nobody awaits the future
                entry.done.exception()
