"""The ordered path: broadcasts of topics with a history.

Each is kept first, which gives it its place; then every node, the origin too, delivers the
n-th of a topic after the one before it. What does not arrive is read from the history. Where
that has a gap, the channels of the topic end with ``phx_error``: their clients join again with
the last offset they have, and are told that something is missing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..exceptions import EncodeError, StateError
from ..history import Claim, History, Recovery, kept_broadcast
from ..logs import get_logger
from ..state import Item, Kept, Position
from ..wire import json
from ..wire.messages import Broadcast

if TYPE_CHECKING:
    from .node import PubSub

logger = get_logger("phx_protocol.pubsub")

#: seconds that the one before a broadcast may take; then it is read from the history
PATIENCE = 0.1
#: seconds after which what cannot be read is given up
GIVE_UP = 2.0
#: broadcasts that are kept in one step
BATCH = 1000


class Held(NamedTuple):
    """A broadcast that waits for the one before it, and the id of the channel not to get it."""

    broadcast: Broadcast
    from_id: str | None


class Waiting(NamedTuple):
    """A broadcast that is to be kept; `done` is its publication, or None without a layer."""

    item: Item
    held: Held
    done: asyncio.Future[asyncio.Future[None] | None]


class Ordered:
    """The streams of one node, and the one way into the histories."""

    def __init__(self, node: PubSub) -> None:
        self._node = node
        self._state = node.heartbeat.state
        self._streams: dict[str, Stream] = {}
        self._outbox: list[Waiting] = []
        self._task: asyncio.Task[None] | None = None
        # topics of which something was broadcast and not kept
        self._broken: set[str] = set()
        node.heartbeat.duties.append(self._beat)
        node.on_unused.append(self._unused)

    # ------------------------------------------------------------------ the way in

    async def broadcast(
        self, history: History, broadcast: Broadcast, from_id: str | None
    ) -> asyncio.Future[None] | None:
        """Keep, deliver here, and hand to the publisher, whose future is returned.

        With a state that fails it is delivered all the same, and the history begins anew.
        Raises EncodeError.
        """
        payload = bytes(broadcast.payload)
        # they may be no Unicode
        json.encode((broadcast.topic, broadcast.event, from_id))
        if payload[:1] != b"{":
            raise EncodeError(
                f"the payload of {broadcast.event!r} must be a mapping: it is kept"
            )
        id, topic = self._node.new_id(), broadcast.topic
        rest = payload, from_id, history.size, history.ttl
        item = Item(topic, id, broadcast.event, *rest)
        done: asyncio.Future[asyncio.Future[None] | None]
        done = self._node.loop.create_future()
        self._outbox.append(Waiting(item, Held(broadcast, from_id), done))
        if self._task is None:
            self._task = self._node.loop.create_task(self._run())
        return await asyncio.shield(done)

    async def _run(self) -> None:
        """In the order they came, however long the state takes, whoever still waits."""
        try:
            while self._outbox:
                batch, self._outbox = self._outbox[:BATCH], self._outbox[BATCH:]
                items = [waiting.item for waiting in batch]
                try:
                    positions = await self._keep(items)
                except Exception as error:
                    for waiting in batch:
                        waiting.done.set_exception(error)
                    continue
                for waiting, position in zip(batch, positions):
                    await self._node.take_turns()
                    try:
                        published = self._publish(waiting, position)
                    except Exception as error:
                        waiting.done.set_exception(error)
                    else:
                        waiting.done.set_result(published)
        finally:
            self._task = None

    async def _keep(self, items: list[Item]) -> list[Position | None]:
        topics = {item.topic for item in items}
        try:
            if self._node.heartbeat.is_down:
                raise StateError("it is known to fail")
            await self._mend(topics)
            return list(await self._state.append(items))
        except StateError as error:
            self._node.heartbeat.failed(error)
            self._broken |= topics
            # a process without sockets beats too, until that is mended
            self._node.hold(self)
            self._node.heartbeat.start()
            return [None] * len(items)

    def _publish(
        self, waiting: Waiting, position: Position | None
    ) -> asyncio.Future[None] | None:
        broadcast, from_id = waiting.held
        if position is not None:
            broadcast = msgspec.structs.replace(broadcast, offset=str(position))
        self._node.deliver(broadcast, from_id=from_id, strict=False)
        # the sender may have joined again by now, elsewhere
        return self._node.send_on(broadcast, from_id)

    async def _mend(self, topics: set[str]) -> None:
        """A history with a gap begins anew. Raises StateError."""
        for topic in topics & self._broken:
            await self._state.reset(topic)
            self._broken.discard(topic)
            if topic in self._streams:
                await self._streams[topic].begin_anew()
        if not self._broken:
            self._node.release(self)

    # ----------------------------------------------------------------- the way out

    def offer(self, held: Held) -> None:
        """A broadcast with an offset, from wherever: it is delivered when its turn comes."""
        stream = self._streams.get(held.broadcast.topic)
        position = Position.parse(held.broadcast.offset)
        if stream is None or position is None:
            self._node.deliver_now(held.broadcast, from_id=held.from_id)
        else:
            stream.offer(position, held)

    async def catch_up(self, topic: str, history: History, claim: Claim) -> Recovery:
        """What a client with `claim` missed. Nothing comes live between that and the return."""
        stream = self._streams.get(topic)
        if stream is None:
            stream = self._streams[topic] = Stream(self._node, topic, history.ttl)
        stream.users += 1
        try:
            missed = await self._missed(stream, claim)
        finally:
            stream.users -= 1
        if missed is None:
            return Recovery(stream.position)
        others = (kept for kept in missed if kept.sender not in claim.senders)
        return Recovery(stream.position, True, tuple(others))

    async def _missed(self, stream: Stream, claim: Claim) -> list[Kept] | None:
        beat = self._node.heartbeat
        await stream.opened()
        if claim.position is None or beat.is_down:
            return None  # in an outage broadcasts are not kept, by whatever node
        try:
            await self._mend({stream.topic})
            return await stream.since(claim.position)
        except StateError as error:
            beat.failed(error)
            return None

    def look_again(self) -> None:
        """Something may have been lost: see whether there is more than what came."""
        for stream in self._streams.values():
            stream.look_soon()

    def _unused(self, topic: str) -> None:
        """What is broadcast from now on may not come here."""
        if topic in self._streams and not self._streams[topic].users:
            self._streams.pop(topic).close()

    async def _beat(self) -> None:
        for topic in [t for t in self._streams if t not in self._node.registry]:
            self._unused(topic)
        await self._mend(set(self._broken))
        streams = list(self._streams.values())
        heads = await self._state.heads({s.topic: s.ttl for s in streams})
        for stream, head in zip(streams, heads):
            await stream.compare(head)


class Stream:
    """One topic in one node: how far it is delivered, and what came too early."""

    def __init__(self, node: PubSub, topic: str, ttl: float) -> None:
        self.topic = topic
        self.position: Position | None = None  # None: not known (yet)
        self._node = node
        self._state = node.heartbeat.state
        self.ttl = ttl
        self.users = 0  # joins that ask what they missed
        self._held: dict[int, Held] = {}
        self._early: list[tuple[Position, Held]] = []
        self._opening: asyncio.Task[None] | None = node.loop.create_task(self._open())
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None
        self._failing_since: float | None = None
        self._is_closed = False

    def close(self) -> None:
        """Nobody here is left; who comes is served by another stream."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def opened(self) -> None:
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def _open(self) -> None:
        """See where the topic is; what comes meanwhile waits."""
        try:
            if self._node.heartbeat.is_down:
                raise StateError("it is known to fail")
            self.position = await self._state.open(self.topic, self.ttl)
        except StateError as error:
            self._node.heartbeat.failed(error)
        finally:
            self._opening = None
            early, self._early = self._early, []
            for position, held in early:
                self.offer(position, held)

    def offer(self, position: Position, held: Held) -> None:
        """Deliver it if its turn has come, hold it if not."""
        if self._opening is not None:
            self._early.append((position, held))
        elif self.position is None:
            self._deliver(held)  # nothing is known: it goes on from here
            self.position = position
        elif position.epoch != self.position.epoch:
            self.look_soon()  # of a history that is lost, or of one that began anew
        elif position.n > self.position.n:
            self._held[position.n] = held
            self._drain()
            if self._held:
                self.look_soon()

    def _drain(self) -> None:
        assert self.position is not None
        epoch, n = self.position
        while (held := self._held.pop(n + 1, None)) is not None:
            n += 1
            self._deliver(held)
        self.position = Position(epoch, n)

    def _deliver(self, held: Held) -> None:
        if not self._is_closed:
            self._node.deliver_now(held.broadcast, from_id=held.from_id)

    # ------------------------------------------------------------ what did not come

    def look_soon(self) -> None:
        """Read what is missing, if it does not come by itself."""
        if self._timer is None and self._filling is None and not self._is_closed:
            self._timer = self._node.loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        self._timer = None
        self.fill()

    def fill(self) -> asyncio.Task[None]:
        if self._filling is None:
            self._filling = self._node.loop.create_task(self._fill())
        return self._filling

    async def _fill(self) -> None:
        """Deliver what the history has and this node has not."""
        try:
            if self.position is None:
                return
            head, kept = await self._state.since(
                self.topic, self.position.n, self.ttl, partial=True
            )
            await self._take(head, kept)
        except StateError as error:
            self._node.heartbeat.failed(error)
            self._wait_for_the_state()
        else:
            self._failing_since = None
        finally:
            self._filling = None
        if self._held:
            self.look_soon()

    async def _take(self, head: Position, kept: list[Kept]) -> None:
        assert self.position is not None
        if head.epoch != self.position.epoch:
            return await self.begin_anew()
        for one in kept:
            if one.n > self.position.n:
                held = Held(kept_broadcast(self.topic, head.epoch, one), one.sender)
                self._held.setdefault(one.n, held)
        self._drain()
        if self.position.n < head.n:
            self._skip_to(head)

    def _wait_for_the_state(self) -> None:
        """What is held cannot wait for ever."""
        now = self._node.loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if self._held and now - self._failing_since > GIVE_UP:
            assert self.position is not None
            self._skip_to(Position(self.position.epoch, max(self._held)))

    def _skip_to(self, position: Position) -> None:
        """What is missing cannot be had any more."""
        self._held = {n: held for n, held in self._held.items() if n > position.n}
        self.position = position
        self._interrupt()

    async def begin_anew(self) -> None:
        """The history was lost, or has a gap that some node made. Raises StateError."""
        head = await self._state.open(self.topic, self.ttl)
        if self.position is None or head.epoch != self.position.epoch:
            self._held.clear()
            self.position = head
            self._interrupt()

    def _interrupt(self) -> None:
        """Have the clients join again: they are told there what they missed."""
        if self._is_closed:
            return
        logger.error("%s: something is missing in its history", self.topic)
        for subscriber in self._node.registry.subscribers(self.topic):
            interrupt = getattr(subscriber, "interrupt", None)
            if interrupt is not None:
                interrupt()

    async def compare(self, head: Position) -> None:
        """`head` is where the topic is now. Raises StateError."""
        if self._opening is not None:
            return
        if self.position is None or head.epoch != self.position.epoch:
            await self.begin_anew()
        elif head.n > self.position.n:
            self.look_soon()

    async def since(self, position: Position | None) -> list[Kept] | None:
        """What came after `position` and is delivered here, or None: that is not known.

        Nothing is delivered between the last of it and the return. Raises StateError.
        """
        if position is None or self.position is None:
            return None
        for _ in range(2):  # a reading that runs may be too old
            if self._is_ahead(position):
                await asyncio.shield(self.fill())  # another node was faster
        missed: list[Kept] = []
        n = position.n
        while self._is_at(position.epoch) and n < self.position.n:
            head, kept = await self._state.since(self.topic, n, self.ttl)
            if not kept or head.epoch != position.epoch:
                return None
            missed += kept
            n = kept[-1].n
        if not self._is_at(position.epoch) or self._is_ahead(position):
            return None
        return [kept for kept in missed if kept.n <= self.position.n]

    def _is_at(self, epoch: str) -> bool:
        return self.position is not None and self.position.epoch == epoch

    def _is_ahead(self, position: Position) -> bool:
        assert self.position is not None
        return position.epoch == self.position.epoch and position.n > self.position.n
