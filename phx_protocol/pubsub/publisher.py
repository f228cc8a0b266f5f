"""The one ordered way from this process to the channel layer."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

from ..exceptions import BroadcastError, in_words
from ..signals import messages_dropped
from ..wire.messages import Broadcast
from . import message
from .message import group_name

#: how many broadcasts may wait for the layer before a publisher has to wait as well
OUTBOX = 1000
#: how many broadcasts travel in one message at the most, and how many bytes of payload
BATCH = 1000
BATCH_BYTES = 256 * 1024

Entry = tuple[Broadcast, str | None, asyncio.Future[None]]


class Publisher:
    """Sends the broadcasts of a topic in the order they came; what waits for one travels together."""

    def __init__(
        self, layer: Any, node: str, report: Callable[[BaseException | None], None]
    ) -> None:
        self.layer = layer
        self.node = node
        self._report = report
        # topic -> what waits for it; the topic that waits longest first
        self._outbox: dict[str, deque[Entry]] = {}
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        return self._waiting >= OUTBOX

    def publish(
        self, broadcast: Broadcast, from_id: str | None
    ) -> asyncio.Future[None]:
        """Queue `broadcast`. The future is done when the layer took it; its error is a BroadcastError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        entries = self._outbox.setdefault(broadcast.topic, deque())
        entries.append((broadcast, from_id, done))
        self._waiting += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())
        return done

    async def _run(self) -> None:
        try:
            while self._outbox:
                await self._send(self._next_batch())
        finally:
            self._task = None

    def _next_batch(self) -> list[Entry]:
        """The next broadcasts of the topic that waits longest."""
        topic = next(iter(self._outbox))
        entries = self._outbox.pop(topic)
        batch: list[Entry] = []
        size = 0
        while entries and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(entries.popleft())
            size += len(memoryview(batch[-1][0].payload))
        if entries:
            self._outbox[topic] = entries  # behind the others
        self._waiting -= len(batch)
        return batch

    async def _send(self, batch: list[Entry]) -> None:
        items = [
            message.pack_item(broadcast, from_id) for broadcast, from_id, _ in batch
        ]
        try:
            topic = batch[0][0].topic
            await self.layer.group_send(
                group_name(topic), message.pack(items, self.node)
            )
        except Exception as error:
            self._report(error)
            messages_dropped.emit(None, count=len(batch), where="layer")
            for *_, done in batch:
                if not done.done():
                    done.set_exception(
                        BroadcastError(
                            f"the channel layer did not take it: {in_words(error)}"
                        )
                    )
        else:
            self._report(None)
            for *_, done in batch:
                if not done.done():
                    done.set_result(None)


def _seen(future: asyncio.Future[None]) -> None:
    # who does not wait for the future has it counted and logged all the same
    if not future.cancelled():
        future.exception()
