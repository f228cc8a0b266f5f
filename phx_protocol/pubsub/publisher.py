"""The one ordered way from this process to the channel layer."""

from __future__ import annotations

import asyncio
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
    """Sends broadcasts in the order they came; what waits for one group travels together."""

    def __init__(
        self, layer: Any, node: str, report: Callable[[BaseException | None], None]
    ) -> None:
        self.layer = layer
        self.node = node
        self._report = report
        self._outbox: deque[Entry] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        return len(self._outbox) >= OUTBOX

    def publish(
        self, broadcast: Broadcast, from_id: str | None
    ) -> asyncio.Future[None]:
        """Queue `broadcast`. The future is done when the layer took it; its error is a BroadcastError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        self._outbox.append((broadcast, from_id, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return done

    async def _run(self) -> None:
        try:
            while self._outbox:
                await self._send(self._next_batch())
        finally:
            self._task = None

    def _next_batch(self) -> list[Entry]:
        """The next broadcasts that go to one topic; what is between them keeps its place."""
        topic, size = self._outbox[0][0].topic, 0
        batch: list[Entry] = []
        others: list[Entry] = []
        while (
            self._outbox
            and len(batch) < BATCH
            and size < BATCH_BYTES
            and len(others) < BATCH
        ):
            entry = self._outbox.popleft()
            if entry[0].topic == topic:
                batch.append(entry)
                size += len(memoryview(entry[0].payload))
            else:
                others.append(entry)
        self._outbox.extendleft(reversed(others))
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
