"""The ordered path: broadcasts of topics with a history.

Each broadcast is kept first, which gives it its offset. Then every node, the sending one too,
delivers the broadcasts of a topic in the order of their offsets: see ``stream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..concurrency.tasks import begin, is_cancelled
from ..exceptions import EncodeError, StateError, StateMoved
from ..logs import get_logger
from ..logs.printable import describe
from ..node.part import PARTS, HasMoved, StatePart
from ..pubsub.sequence import Sequencer
from ..state import Had, Item, Kept, Position, Row, is_behind
from ..wire import json
from ..wire.messages import Broadcast
from .policy import History
from .recovery import Recovery, RecoveryRequest, kept_broadcast
from .stream import Stream

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat
    from ..node.node import Node

logger = get_logger("phx_protocol.pubsub")

#: most broadcasts that are kept in one step, and their bytes
BATCH = 1000
BATCH_BYTES = 1024 * 1024
#: most topics to remember whose histories have a gap; with more of them, all histories begin again
BROKEN = 10_000
#: most histories that are read at the same time
READS = 8


class PendingAppend(NamedTuple):
    """A broadcast that waits to be kept. The result of `done` is the future of the publisher, or None."""

    item: Item
    broadcast: Broadcast
    done: asyncio.Future[asyncio.Future[None] | None]


class Streams(StatePart, Sequencer):
    """The streams of one node for the topics of one server, and the queue of broadcasts for their histories."""

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        StatePart.__init__(self, node, heartbeat)
        Sequencer.__init__(self, node.pubsub.deliver_local)
        is_only_one = len(node.heartbeats) == 1
        node.pubsub.sequencer = self if is_only_one else Spread(node)
        self._state = heartbeat.state
        self._streams: dict[str, Stream] = {}
        self._outbox: deque[PendingAppend] = deque()
        self._task: asyncio.Task[None] | None = None
        # done when the batch that is being kept is; what other parts keep before: it was sent earlier
        self._keeping: asyncio.Future[None] | None = None
        self._earlier: set[asyncio.Future[None]] = set()
        # topics with a broadcast that could not be kept
        self._broken: set[str] = set()
        self._is_all_broken = False
        self._reads = asyncio.Semaphore(READS)

    # ------------------------------------------------------------------ keeping

    def append(
        self, history: History, broadcast: Broadcast, row: Row | None = None
    ) -> asyncio.Future[asyncio.Future[None] | None]:
        payload = broadcast.payload
        # raises EncodeError for strings with lone surrogates
        json.encode((broadcast.topic, broadcast.event, broadcast.sender))
        if not isinstance(payload, bytes):
            payload = payload.copy()  # it may be a part of something larger
            if bytes(memoryview(payload)[:1]) != b"{":
                raise EncodeError(
                    f"the payload of {broadcast.event!r} must be a mapping: it is kept"
                )
        id, topic = self.node.new_id(), broadcast.topic
        rest = payload, broadcast.sender, history.size, history.ttl, history.max_bytes
        item = Item(topic, id, broadcast.event, *rest, row=row)
        done: asyncio.Future[asyncio.Future[None] | None]
        done = self.node.loop.create_future()
        self._queue(PendingAppend(item, broadcast, done))
        return done

    def _queue(self, *pending: PendingAppend, is_first: bool = False) -> None:
        if is_first:
            self._outbox.extendleft(reversed(pending))
        else:
            self._outbox.extend(pending)
        if self._task is None:
            self._task = begin(self._run())

    async def _run(self) -> None:
        """Keep and publish the queued broadcasts in order, even if their senders were cancelled."""
        try:
            while self._outbox:
                if earlier := set(self._earlier):
                    await asyncio.wait(earlier)
                    self._earlier -= earlier  # there may be others by now
                    continue
                batch = self._next_batch()
                self._keeping = self.node.loop.create_future()
                try:
                    batch, positions = await self._keep(batch)
                except (Exception, asyncio.CancelledError) as error:
                    if is_cancelled():
                        raise
                    if isinstance(error, asyncio.CancelledError):
                        error = StateError(describe(error))
                    for waiting in batch:
                        waiting.done.set_exception(error)
                    self._fail_rows(batch, error)
                    continue
                finally:
                    self._keeping.set_result(None)
                    self._keeping = None
                for waiting, position in zip(batch, positions):
                    await self.node.pubsub.yield_to_loop()
                    try:
                        published = self._publish(waiting, position)
                    except Exception as error:
                        waiting.done.set_exception(error)
                    else:
                        waiting.done.set_result(published)
                await self._tell_again(batch, positions)
        finally:
            self._task = None

    def _next_batch(self) -> list[PendingAppend]:
        batch: list[PendingAppend] = []
        size = 0
        while self._outbox and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(self._outbox.popleft())
            size += batch[-1].item.bytes
        return batch

    async def _keep(
        self, batch: list[PendingAppend]
    ) -> tuple[list[PendingAppend], list[Position | None]]:
        """Keep `batch`. Return its broadcasts with their positions, None if they cannot be kept; but not
        those that are queued again, because topics have moved."""
        items = [waiting.item for waiting in batch]
        topics = {item.topic for item in items}
        try:
            with self.heartbeat.state_call():
                await self._mend(topics)
                found = await self._state.append(items)
        except StateMoved:
            found = [None] * len(items)
        except StateError as error:
            self._fail_rows(batch, error)
            # a row is not published: the outbox sends it again
            for topic in {item.topic for item in items if item.row is None}:
                # one that has moved meanwhile has a gap where it is now
                self.node.part(Streams, topic)._break(topic)
            return batch, [None] * len(items)
        if None not in found:
            return batch, found
        placement = self.node.placement
        await placement.settled()
        await asyncio.sleep(0)  # whatever comes, the loop goes on
        kept: list[tuple[PendingAppend, Position | None]] = []
        again: dict[Streams, list[PendingAppend]] = {}
        for waiting, position in zip(batch, found):
            topic = waiting.item.topic
            # else it is on a server that this process does not know
            if position is None and placement.is_known(topic):
                # it may still be here: what was to be kept in one step with another topic was refused too
                again.setdefault(self.node.part(Streams, topic), []).append(waiting)
            else:
                kept.append((waiting, position))
        for part, some in again.items():
            part._queue(*some, is_first=True)
        return [one for one, _ in kept], [position for _, position in kept]

    def moved(self, has_moved: HasMoved) -> None:
        for topic in [topic for topic in self._streams if has_moved(topic)]:
            stream = self._streams.pop(topic)
            part = self.node.part(Streams, topic)
            part._streams[topic] = stream
            stream.move(part.heartbeat)
        self._broken = {topic for topic in self._broken if not has_moved(topic)}
        outbox = [*self._outbox]
        self._outbox.clear()
        for waiting in outbox:
            self.node.part(Streams, waiting.item.topic)._queue(waiting)
        if self._keeping is not None:
            for other in self.node.parts:
                if isinstance(other, Streams) and other is not self:
                    other._earlier.add(self._keeping)

    def _fail_rows(self, batch: list[PendingAppend], error: BaseException) -> None:
        """Fail the queued rows of the topics of which `batch` has rows: none may overtake one that failed."""
        topics = {w.item.topic for w in batch if w.item.row is not None}
        if not topics:
            return
        queued, self._outbox = self._outbox, deque()
        for waiting in queued:
            if waiting.item.row is None or waiting.item.topic not in topics:
                self._outbox.append(waiting)
            elif not waiting.done.done():
                waiting.done.set_exception(error)

    async def _tell_again(
        self, batch: list[PendingAppend], positions: list[Position | None]
    ) -> None:
        """Publish the last broadcast of topics that have had a row: who kept it may not have published it.

        Whoever lacks something then reads it from the history.
        """
        had = {
            waiting.item.topic: (waiting.item.ttl, position.n)
            for waiting, position in zip(batch, positions)
            if isinstance(position, Had)
        }
        for topic, (ttl, n) in had.items():
            with contextlib.suppress(StateError), self.heartbeat.state_call():
                head, kept = await self._state.since(topic, n - 1, ttl, partial=True)
                for last in kept[-1:]:
                    broadcast = kept_broadcast(topic, head.epoch, last)
                    self.node.pubsub.deliver(broadcast, strict=False)
                    self.node.pubsub.publish_remote(broadcast)

    def _publish(
        self, waiting: PendingAppend, position: Position | None
    ) -> asyncio.Future[None] | None:
        if isinstance(position, Had):
            return None
        if position is None and waiting.item.row is not None:
            self._fail_rows([waiting], error := StateError("it cannot be kept now"))
            raise error
        broadcast = waiting.broadcast
        if position is not None:
            broadcast = msgspec.structs.replace(broadcast, offset=str(position))
        self.node.pubsub.deliver(broadcast, strict=False)
        # with its `sender`: that client may have joined again by now, in another process
        return self.node.pubsub.publish_remote(broadcast)

    def _break(self, topic: str) -> None:
        if not self._is_all_broken:
            self._broken.add(topic)
        if len(self._broken) > BROKEN:
            self._is_all_broken = True
            self._broken.clear()
        # even a process without sockets beats until the histories are mended
        self.node.keep_alive(self)
        self.heartbeat.start()

    async def _mend(self, topics: set[str]) -> None:
        """Begin the histories of `topics` again where they have a gap. Raises StateError."""
        if self._is_all_broken:
            # first a read, so that ``lost`` applies to the store as it is now
            await self._state.nodes()
            await self._state.lost()
            self._is_all_broken = False
            self.heartbeat.beat_soon()
        for topic in topics & self._broken:
            await self._state.reset(topic)
            self._broken.discard(topic)
            if topic in self._streams:
                await self._streams[topic].restart()
        if not self._broken:
            self.node.let_go(self)

    # ----------------------------------------------------------------- delivering

    def offer(self, broadcast: Broadcast) -> None:
        stream = self._streams.get(broadcast.topic)
        position = Position.parse(broadcast.offset)
        if stream is None or position is None:
            super().offer(broadcast)
        else:
            stream.offer(position, broadcast)

    def warn_if_not_kept(self, broadcast: Broadcast) -> None:
        """Warn about a broadcast that another process sent without keeping it."""
        stream = self._streams.get(broadcast.topic)
        if stream is not None and stream.history.keeps(broadcast):
            logger.warning(
                "%s: %r came from a process that did not keep it: its state fails, or its "
                "PHX_PROTOCOL['SOCKETS'] does not lead to the channel class",
                broadcast.topic,
                broadcast.event,
            )

    async def catch_up(
        self,
        topic: str,
        history: History,
        request: RecoveryRequest,
        since: float = -math.inf,
    ) -> Recovery:
        """Return what a client with `request` missed, or what a rewind gives it.

        Only what was kept since then, in seconds of the epoch. Nothing is delivered between that and
        the return.
        """
        stream = self._streams.get(topic)
        if stream is None:
            stream = self._streams[topic] = Stream(
                self.node, self.heartbeat, topic, history, self._reads
            )
        stream.shared.enter()
        try:
            missed, recovered = await self._missed(stream, history, request)
        finally:
            stream.shared.leave()
        position = stream.position
        if missed is None or position is None:
            return Recovery(position)
        seen = [kept for kept in missed if kept.at >= since]
        if seen and not recovered:
            position = position._replace(n=seen[0].n - 1)
        others = tuple(kept for kept in seen if kept.sender not in request.senders)
        return Recovery(position, recovered, others, rewound=not recovered)

    async def _missed(
        self, stream: Stream, history: History, request: RecoveryRequest
    ) -> tuple[list[Kept] | None, bool]:
        """Return what the client missed and True, or what a rewind gives it and False; or None."""
        await stream.opened()
        if request.position is None and not history.rewind:
            return None, False
        try:
            with self.heartbeat.state_call():
                await self._mend({stream.topic})
            missed = await stream.since(request.position)
            if missed is None and history.rewind:
                return await stream.rewind(history, request.position), False
            return missed, True
        except StateError:
            return None, False  # during an outage no node keeps broadcasts

    def resync(self) -> None:
        """Compare every stream with the state: messages may have been lost."""
        for stream in self._streams.values():
            stream.schedule_fill()

    def unused(self, topic: str) -> None:
        """Drop the stream of `topic`: from now on its broadcasts may not arrive here."""
        if topic in self._streams and not self._streams[topic].shared.users:
            self._streams.pop(topic).close()

    async def beat(self) -> None:
        for topic in [t for t in self._streams if t not in self.node.pubsub.registry]:
            self.unused(topic)
        # of those that this process cannot reach others begin the histories again
        self._broken = {topic for topic in self._broken if self.has(topic)}
        await self._mend(set(self._broken))
        streams = [s for topic, s in self._streams.items() if self.has(topic)]
        known = [stream.position for stream in streams]
        heads = await self._state.heads({s.topic: s.ttl for s in streams})
        if any(map(is_behind, heads, known)):
            # forget all: the nodes that made the lost steps, and could repeat them, may be gone
            await self._state.lost()
            return self.heartbeat.beat_soon()
        for stream, head in zip(streams, heads):
            if self._streams.get(stream.topic) is stream:  # it may have moved meanwhile
                await stream.compare(head)


class Spread(Sequencer):
    """The streams of one node whose topics are on several servers."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.pubsub.deliver_local)
        self._node = node

    def _of(self, topic: str) -> Streams:
        return self._node.part(Streams, topic)

    def append(
        self, history: History, broadcast: Broadcast, row: Row | None = None
    ) -> asyncio.Future[asyncio.Future[None] | None]:
        return self._of(broadcast.topic).append(history, broadcast, row)

    def offer(self, broadcast: Broadcast) -> None:
        self._of(broadcast.topic).offer(broadcast)

    def warn_if_not_kept(self, broadcast: Broadcast) -> None:
        self._of(broadcast.topic).warn_if_not_kept(broadcast)

    def resync(self) -> None:
        for part in self._node.parts:
            if isinstance(part, Streams):
                part.resync()


PARTS.append(Streams)
