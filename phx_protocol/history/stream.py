"""Stream: the kept broadcasts of one topic, which one node delivers in their order.

A broadcast that does not arrive is read from the history. If the history has a gap too, the
channels of the topic end with ``phx_error``: their clients join again with their last offset, and
learn from the reply that broadcasts are missing.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, TypeAlias

from ..concurrency.tasks import begin
from ..exceptions import StateError
from ..logs import get_logger
from ..state import Kept, Position
from ..wire.messages import Broadcast
from .policy import History, bounds_of, newest
from .recovery import kept_broadcast
from .shared import SharedReading

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat
    from ..node.node import Node

logger = get_logger("phx_protocol.pubsub")

Task: TypeAlias = asyncio.Task[None]

#: seconds to wait for a missing broadcast before it is read from the history
GAP_TIMEOUT = 0.1
#: seconds after which a missing broadcast that cannot be read is given up
GIVE_UP = 2.0


class Stream:
    """One topic in one node: the position of the last delivered broadcast, and those that came early."""

    def __init__(
        self,
        node: Node,
        heartbeat: Heartbeat,
        topic: str,
        history: History,
        reads: asyncio.Semaphore,
    ) -> None:
        self.topic = topic
        self.position: Position | None = None  # None while it is not known
        self._node = node
        self._heartbeat = heartbeat
        self._reads = reads
        self.history = history
        self.ttl = history.ttl
        self.shared = SharedReading(self)
        self._held: dict[int, Broadcast] = {}
        self._early: list[tuple[Position, Broadcast]] = []
        self._opening: Task | None = begin(self._open())
        self._timer: asyncio.TimerHandle | None = None
        self._filling: Task | None = None
        self._failing_since: float | None = None
        self._is_closed = False

    def close(self) -> None:
        """Stop: no client here has the topic. A later one gets a new stream."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def opened(self) -> None:
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def _open(self) -> None:
        """Read the position of the topic. Broadcasts that arrive meanwhile wait."""

        async def ask(heartbeat: Heartbeat) -> Position:
            with heartbeat.state_call():
                return await heartbeat.state.open(self.topic, self.ttl)

        try:
            self.position = await self._node.asked(self.topic, ask)
        except StateError:
            pass  # broadcasts are delivered as they come
        finally:
            self._offer_early()

    def _offer_early(self) -> None:
        self._opening = None
        early, self._early = self._early, []
        for position, broadcast in early:
            self.offer(position, broadcast)

    def move(self, heartbeat: Heartbeat) -> None:
        """Go on with the history on another server of the state, which begins there."""
        others = filter(None, (self._opening, self._filling))
        self._opening = begin(self._move(heartbeat, [*others]))

    async def _move(self, heartbeat: Heartbeat, others: list[Task]) -> None:
        """Deliver the rest of the old history, to which nothing is added any more, then all of the new one."""
        if others:
            await asyncio.wait(others)
            self._opening = asyncio.current_task()
        is_whole = False
        try:
            is_whole = await self._begin_at(heartbeat)
        finally:
            self._offer_early()
            if not is_whole:
                self._interrupt()
        self.schedule_fill()

    async def _begin_at(self, heartbeat: Heartbeat) -> bool:
        """Begin with the new history. Return whether all of the old one was delivered, as far as it is known."""
        try:
            with heartbeat.state_call():
                head = await heartbeat.state.open(self.topic, self.ttl)
        except StateError:
            head = None
        known = self.position
        # it may have been told of the new one by a broadcast before it knew anything
        is_there = head is not None and self._is_at(head.epoch)
        is_whole = is_there or known is not None and await self._has_delivered_all()
        if head is None or known is None:
            self.position = head
        elif not is_there:
            self.position = Position(head.epoch, 0)
        self._heartbeat, self._held = heartbeat, {}
        self.shared.clear()
        return is_whole

    async def _has_delivered_all(self) -> bool:
        try:
            return await self._catch_up(was_here=True) is None
        except StateError:
            return False

    def offer(self, position: Position, broadcast: Broadcast) -> None:
        """Deliver `broadcast` if it is the next one, else keep it until it is."""
        if self._opening is not None:
            self._early.append((position, broadcast))
        elif self.position is None:
            self._deliver(broadcast)  # the position is not known: start from this one
            self.position = position
        elif position.epoch != self.position.epoch:
            self.schedule_fill()  # from a history that was lost, or from a new one
        elif position.n > self.position.n:
            self._held[position.n] = broadcast
            self._drain()
            if self._held:
                self.schedule_fill()

    def _drain(self) -> None:
        assert self.position is not None
        epoch, n = self.position
        while (broadcast := self._held.pop(n + 1, None)) is not None:
            n += 1
            self._deliver(broadcast)
        self.position = Position(epoch, n)

    def _deliver(self, broadcast: Broadcast) -> None:
        if not self._is_closed:
            self._node.pubsub.deliver_local(broadcast)

    # ------------------------------------------------------------ missing broadcasts

    def schedule_fill(self) -> None:
        """Read the missing broadcasts after a moment, if they have not arrived by then."""
        if self._timer is None and self._filling is None and not self._is_closed:
            self._timer = self._node.loop.call_later(
                GAP_TIMEOUT, self._look, context=contextvars.Context()
            )

    def _look(self) -> None:
        self._timer = None
        self.fill()

    def fill(self) -> Task:
        if self._filling is None:
            self._filling = begin(self._fill())
        return self._filling

    async def _fill(self) -> None:
        """Deliver the broadcasts that are in the history and did not reach this node."""
        try:
            await self._read()
        except StateError:
            self._wait_for_the_state()
        else:
            self._failing_since = None
        finally:
            self._filling = None
        if self._held:
            self.schedule_fill()

    async def _read(self) -> None:
        gap = await self._catch_up()
        if gap is None or self.position is None:
            return
        if gap.epoch == self.position.epoch:
            return self._skip_to(gap)
        with self._heartbeat.state_call(reads=True):
            await self.restart()

    async def _catch_up(self, **how: Any) -> Position | None:
        """Read page after page, and deliver each before the next is read.

        Return None, or if broadcasts are missing the position after them.
        """
        is_done = False
        while self.position is not None and not is_done:
            epoch, n = self.position
            head, kept = await self._read_page(n, partial=True, **how)
            if not self._is_at(epoch):
                continue  # it has begun again, or moved, meanwhile
            if head.epoch != epoch:
                return head
            self._take(head.epoch, kept)
            is_done = not kept or kept[-1].n >= head.n
            if self.position.n < (head.n if is_done else kept[-1].n):
                return head
        return None

    async def _read_page(self, n: int, **how: Any) -> tuple[Position, list[Kept]]:
        async with self._reads:
            with self._heartbeat.state_call(reads=True):
                return await self._heartbeat.state.since(self.topic, n, self.ttl, **how)

    def _take(self, epoch: str, kept: list[Kept]) -> None:
        assert self.position is not None
        for one in kept:
            if one.n > self.position.n:
                broadcast = kept_broadcast(self.topic, epoch, one)
                self._held.setdefault(one.n, broadcast)
        self._drain()

    def _wait_for_the_state(self) -> None:
        """Give up on the gap if the state fails for longer than GIVE_UP."""
        now = self._node.loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if self._held and now - self._failing_since > GIVE_UP:
            assert self.position is not None
            self._skip_to(Position(self.position.epoch, max(self._held)))

    def _skip_to(self, position: Position) -> None:
        """Give up on a gap: continue after `position`, and make the clients join again."""
        self._held = {n: held for n, held in self._held.items() if n > position.n}
        self.position = position
        self._interrupt()

    async def restart(self) -> None:
        """Start again at the new epoch, after the history was lost or reset. Raises StateError."""
        head = await self._heartbeat.state.open(self.topic, self.ttl)
        if self.position is None or head.epoch != self.position.epoch:
            self._held.clear()
            self.shared.clear()
            self.position = head
            self._interrupt()

    def _interrupt(self) -> None:
        """Make the clients join again: the reply tells them that broadcasts are missing."""
        if self._is_closed:
            return
        logger.error("%s: broadcasts are missing in its history", self.topic)
        for subscriber in self._node.pubsub.registry.subscribers(self.topic):
            interrupt = getattr(subscriber, "interrupt", None)
            if interrupt is not None:
                interrupt()

    async def compare(self, head: Position) -> None:
        """Compare with `head`, the position in the state; read what is missing. Raises StateError."""
        if self._opening is not None:
            return
        if self.position is None or head.epoch != self.position.epoch:
            await self.restart()
        elif head.n > self.position.n:
            self.schedule_fill()

    async def since(self, position: Position | None) -> list[Kept] | None:
        """Return the broadcasts after `position` up to the last one that was delivered here.

        None if they are not all known, or are more than the history replays. Nothing is delivered
        between the last of them and the return. Raises StateError.
        """
        if position is None or self.position is None:
            return None
        for _ in range(2):  # twice: a reading that already runs may be too old
            if self._is_ahead(position):
                await asyncio.shield(self.fill())  # another node delivered it earlier
        missed: list[Kept] = []
        n, size, most = position.n, 0, self.history.max_replay_bytes
        while self._is_at(position.epoch) and n < self.position.n:
            page = await self.shared.page(position.epoch, n, most - size)
            if not page:
                return None
            missed += page
            n, size = page[-1].n, size + sum(kept.bytes for kept in page)
        if not self._is_at(position.epoch) or self._is_ahead(position):
            return None
        return [kept for kept in missed if kept.n <= self.position.n]

    async def rewind(
        self, history: History, have: Position | None
    ) -> list[Kept] | None:
        """Return the newest broadcasts up to the last one that was delivered here, for a rewind.

        None if they are not known. Those up to `have`, which the client has, are left out. Nothing
        is delivered between the last of them and the return. Raises StateError.
        """
        for _ in range(2):  # twice: the history may have been lost, which is known then
            if self.position is None:
                return None
            epoch = self.position.epoch
            first = await self.shared.first(self.position, history)
            found = await self._newest(epoch, first)
            if found is not None:
                is_here = have is not None and have.epoch == epoch
                n = have.n if have is not None and is_here else 0
                return [kept for kept in newest(found, history) if kept.n > n]
            await asyncio.shield(self.fill())
        return None

    async def _newest(self, epoch: str, n: int | None) -> list[Kept] | None:
        """Read the broadcasts after the `n`-th; None if the topic began again.

        The first of them may go while the others are read; there is no gap in what is returned.
        """
        found: list[Kept] = []
        while n is not None and self._is_at(epoch) and n < self._n:
            page = await self.shared.page(epoch, n, partial=True)
            if not page or page[0].n != n + 1:
                found.clear()
            if not page:
                break
            found += page
            n = page[-1].n
        if n is None or not self._is_at(epoch):
            return None
        return [kept for kept in found if kept.n <= self._n]

    async def read_shared(self, epoch: str, n: int, **how: Any) -> list[Kept]:
        """Read some of the broadcasts after the `n`-th; return none if the topic began again."""
        head, kept = await self._read_page(n, **how)
        return kept if head.epoch == epoch and self._is_at(epoch) else []

    async def read_first(self, position: Position, history: History) -> int | None:
        """Read the number before the first broadcast of a rewind up to `position`.

        None if the topic began again.
        """
        async with self._reads:
            with self._heartbeat.state_call(reads=True):
                ask = self._heartbeat.state.rewind
                args = self.topic, position.n, self.ttl
                head, first = await ask(*args, **bounds_of(history))
        return first if head.epoch == position.epoch else None

    @property
    def _n(self) -> int:
        return 0 if self.position is None else self.position.n

    def _is_at(self, epoch: str) -> bool:
        return self.position is not None and self.position.epoch == epoch

    def _is_ahead(self, position: Position) -> bool:
        assert self.position is not None
        return position.epoch == self.position.epoch and position.n > self.position.n
