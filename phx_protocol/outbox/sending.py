"""Sending: a batch of rows goes to the histories and the channel layer, the rows of a topic in their order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..exceptions import EncodeError, StateError
from ..logs import get_logger
from ..logs.printable import describe
from ..pubsub.message import require_size
from ..socket.routes import history_of
from .rows import Waiting

if TYPE_CHECKING:
    from ..node.node import Node

logger = get_logger("phx_protocol.outbox")

#: most rows of a topic that are sent together, and their bytes
CHUNK = 100
CHUNK_BYTES = 256 * 1024
#: most topics without a history that are sent to at the same time
TOPICS = 50
#: how often a row is tried, if nothing else fails, before it is set aside
TRIES = 5
#: seconds that the channel layer has to take what a history has kept
PATIENCE = 2.0


class Sender:
    """Sends batches of one relay, and knows how often each row has failed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tries = Counter[int]()
        # a layer of channels-redis takes a connection for each
        self._few = asyncio.Semaphore(TOPICS)

    async def send(self, rows: Sequence[Waiting], deadline: float) -> Outcome:
        """Send `rows`; begin nothing after `deadline`, a time of the monotonic clock."""
        by_topic: dict[str, list[Waiting]] = {}
        for waiting in rows:
            by_topic.setdefault(waiting.broadcast.topic, []).append(waiting)
        outcome = Outcome()
        sending = (self._send(some, deadline, outcome) for some in by_topic.values())
        await asyncio.gather(*sending)
        # those of other batches stay: the rows of a partition that waits are not in each batch
        for id in {waiting.id for waiting in rows} - outcome.unsent.keys():
            self._tries.pop(id, None)
        return outcome

    async def _send(
        self, rows: Sequence[Waiting], deadline: float, outcome: Outcome
    ) -> None:
        """Send the rows of a topic, until one fails: none may overtake another."""
        history = history_of(rows[0].broadcast.topic)
        for is_kept, some in groupby(rows, lambda w: _is_kept(w, history)):
            for chunk in _chunks([*some]):
                failed: Waiting | None = chunk[0]
                error: BaseException | None = None
                if time.monotonic() < deadline:
                    send = self._keep if is_kept else self._publish
                    failed, error = await send(chunk, history, outcome)
                if failed is not None:
                    return self._failed(failed, error, outcome)

    async def _keep(
        self, chunk: list[Waiting], history: Any, outcome: Outcome
    ) -> tuple[Waiting | None, BaseException | None]:
        pubsub = self._node.pubsub
        begun: list[tuple[Waiting, asyncio.Future[Any]]] = []
        for waiting in chunk:
            assert waiting.row is not None
            try:
                kept = pubsub.append_row(waiting.broadcast, history, waiting.row)
            except EncodeError as error:
                outcome.aside[waiting.id] = describe(error)
            else:
                begun.append((waiting, kept))
        if begun:
            await asyncio.wait([kept for _, kept in begun])
        # what was kept, but not taken by the layer, is sent again: the history then only tells the others
        errors = [kept.exception() for _, kept in begun]
        published = [
            None if error else kept.result() for (_, kept), error in zip(begun, errors)
        ]
        if accepted := [*filter(None, published)]:
            await asyncio.wait(accepted, timeout=PATIENCE)
        for (waiting, _), failure, taken in zip(begun, errors, published):
            if failure is None and taken is not None:
                failure = taken.exception() if taken.done() else TimeoutError()
            if failure is not None:
                return waiting, failure
            outcome.sent.append(waiting.id)
        return None, None

    async def _publish(
        self, chunk: list[Waiting], history: Any, outcome: Outcome
    ) -> tuple[Waiting | None, BaseException | None]:
        pubsub = self._node.pubsub
        fit: list[Waiting] = []
        for waiting in chunk:
            try:
                require_size(waiting.broadcast)
            except EncodeError as error:
                outcome.aside[waiting.id] = describe(error)
            else:
                fit.append(waiting)
        if fit:
            try:
                async with self._few:
                    await pubsub.publish_rows([waiting.broadcast for waiting in fit])
            except EncodeError as error:
                return await self._publish_each(fit, error, history, outcome)
            except Exception as error:
                return fit[0], error
        outcome.sent += [waiting.id for waiting in fit]
        return None, None

    async def _publish_each(
        self,
        chunk: list[Waiting],
        error: EncodeError,
        history: Any,
        outcome: Outcome,
    ) -> tuple[Waiting | None, BaseException | None]:
        """Publish one row after the other, as one of them cannot be sent: the others can."""
        if len(chunk) == 1:
            outcome.aside[chunk[0].id] = describe(error)
            return None, None
        for waiting in chunk:
            failed, other = await self._publish([waiting], history, outcome)
            if failed is not None:
                return failed, other
        return None, None

    def _failed(
        self,
        waiting: Waiting,
        error: BaseException | None,
        outcome: Outcome,
    ) -> None:
        outcome.unsent[waiting.id] = waiting.partition
        if error is None or self._is_outage(waiting.broadcast.topic, error):
            return
        self._tries[waiting.id] += 1
        logger.warning("the row %d is not sent: %s", waiting.id, describe(error))
        if self._tries[waiting.id] >= TRIES:
            outcome.aside[waiting.id] = describe(error)
            del self._tries[waiting.id]

    def _is_outage(self, topic: str, error: BaseException) -> bool:
        """Return whether it is not the row that fails, but the state or the layer."""
        if isinstance(error, StateError):
            beat = self._node.heartbeat_of(topic)
            if beat.outage.is_on:
                beat.start()  # it notices when the state works again
            return True
        return self._node.link.is_failing


class Outcome:
    """The result of sending a batch: which rows were sent, and which were not."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        #: id -> why a row is set aside
        self.aside: dict[int, str] = {}
        #: rows that must be sent again: id -> partition
        self.unsent: dict[int, int] = {}


def _is_kept(waiting: Waiting, history: Any) -> bool:
    is_numbered = waiting.row is not None and history is not None
    return is_numbered and bool(history.keeps(waiting.broadcast))


def _chunks(rows: list[Waiting]) -> Iterator[list[Waiting]]:
    chunk: list[Waiting] = []
    size = 0
    for waiting in rows:
        if chunk and (len(chunk) >= CHUNK or size + waiting.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(waiting)
        size += waiting.size
    yield chunk
