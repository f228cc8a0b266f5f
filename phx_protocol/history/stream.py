"""Stream: the kept broadcasts of one topic, delivered by one node in their order.

What does not arrive is read from the history. Where that has a gap, the channels of the topic
end with ``phx_error``: their clients join again with the last offset they have, and are told
that something is missing.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin
from ..exceptions import StateError, StateTimeout
from ..logs import get_logger
from ..state import Kept, Position
from ..wire.messages import Broadcast
from .policy import History
from .recovery import kept_broadcast

if TYPE_CHECKING:
    from ..node.node import Node

logger = get_logger("phx_protocol.pubsub")

#: seconds that the one before a broadcast may take; then it is read from the history
PATIENCE = 0.1
#: seconds after which what cannot be read is given up
GIVE_UP = 2.0


class Stream:
    """One topic in one node: how far it is delivered, and what came too early."""

    def __init__(
        self, node: Node, topic: str, history: History, reads: asyncio.Semaphore
    ) -> None:
        self.topic = topic
        self.position: Position | None = None  # None: not known (yet)
        self._node = node
        self._state = node.heartbeat.state
        self._reads = reads
        self.history = history
        self.ttl = history.ttl
        self.users = 0  # joins that ask what they missed
        # what they read, which they share: n -> broadcast
        self._shared: dict[int, Kept] = {}
        self._sharing = asyncio.Lock()
        self._failures = 0  # of readings for joins
        self._held: dict[int, Broadcast] = {}
        self._early: list[tuple[Position, Broadcast]] = []
        self._opening: asyncio.Task[None] | None = begin(self._open())
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
                raise StateError("the state is failing")
            self.position = await self._state.open(self.topic, self.ttl)
        except StateError as error:
            self._node.heartbeat.failed(error)
        finally:
            self._opening = None
            early, self._early = self._early, []
            for position, broadcast in early:
                self.offer(position, broadcast)

    def offer(self, position: Position, broadcast: Broadcast) -> None:
        """Deliver it if its turn has come, hold it if not."""
        if self._opening is not None:
            self._early.append((position, broadcast))
        elif self.position is None:
            self._deliver(broadcast)  # nothing is known: it goes on from here
            self.position = position
        elif position.epoch != self.position.epoch:
            self.schedule_fill()  # of a history that is lost, or of one that began anew
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

    # ------------------------------------------------------------ what did not come

    def schedule_fill(self) -> None:
        """Read what is missing, if it does not come by itself."""
        if self._timer is None and self._filling is None and not self._is_closed:
            self._timer = self._node.loop.call_later(
                PATIENCE, self._look, context=contextvars.Context()
            )

    def _look(self) -> None:
        self._timer = None
        self.fill()

    def fill(self) -> asyncio.Task[None]:
        if self._filling is None:
            self._filling = begin(self._fill())
        return self._filling

    async def _fill(self) -> None:
        """Deliver what the history has and this node has not."""
        try:
            await self._read()
        except StateError as error:
            self._node.heartbeat.doubted(error)
            self._wait_for_the_state()
        else:
            self._failing_since = None
        finally:
            self._filling = None
        if self._held:
            self.schedule_fill()

    async def _read(self) -> None:
        """Page after page, each delivered before the next is read."""
        is_done = False
        while self.position is not None and not is_done:
            head, kept = await self._read_page(self.position.n, partial=True)
            if head.epoch != self.position.epoch:
                return await self.restart()
            self._take(head.epoch, kept)
            is_done = not kept or kept[-1].n >= head.n
            if self.position.n < (head.n if is_done else kept[-1].n):
                return self._skip_to(head)

    async def _read_page(self, n: int, **how: Any) -> tuple[Position, list[Kept]]:
        async with self._reads:
            if self._node.heartbeat.is_down:
                raise StateError("the state is failing")
            return await self._state.since(self.topic, n, self.ttl, **how)

    def _take(self, epoch: str, kept: list[Kept]) -> None:
        assert self.position is not None
        for one in kept:
            if one.n > self.position.n:
                broadcast = kept_broadcast(self.topic, epoch, one)
                self._held.setdefault(one.n, broadcast)
        self._drain()

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

    async def restart(self) -> None:
        """The history was lost, or has a gap that some node made. Raises StateError."""
        head = await self._state.open(self.topic, self.ttl)
        if self.position is None or head.epoch != self.position.epoch:
            self._held.clear()
            self._shared.clear()
            self.position = head
            self._interrupt()

    def _interrupt(self) -> None:
        """Have the clients join again: they are told there what they missed."""
        if self._is_closed:
            return
        logger.error("%s: something is missing in its history", self.topic)
        for subscriber in self._node.pubsub.registry.subscribers(self.topic):
            interrupt = getattr(subscriber, "interrupt", None)
            if interrupt is not None:
                interrupt()

    async def compare(self, head: Position) -> None:
        """`head` is where the topic is now. Raises StateError."""
        if self._opening is not None:
            return
        if self.position is None or head.epoch != self.position.epoch:
            await self.restart()
        elif head.n > self.position.n:
            self.schedule_fill()

    async def since(self, position: Position | None) -> list[Kept] | None:
        """Return what came after `position` and is delivered here, or None: that is not known, or is
        more than the history replays.

        Nothing is delivered between the last of it and the return. Raises StateError.
        """
        if position is None or self.position is None:
            return None
        for _ in range(2):  # a reading that runs may be too old
            if self._is_ahead(position):
                await asyncio.shield(self.fill())  # another node was faster
        missed: list[Kept] = []
        n, size, most = position.n, 0, self.history.max_replay_bytes
        while self._is_at(position.epoch) and n < self.position.n:
            page = await self._page(position.epoch, n, most - size)
            if not page:
                return None
            missed += page
            n, size = page[-1].n, size + sum(kept.bytes for kept in page)
        if not self._is_at(position.epoch) or self._is_ahead(position):
            return None
        return [kept for kept in missed if kept.n <= self.position.n]

    async def _page(self, epoch: str, n: int, limit: int) -> list[Kept]:
        """Some of what was kept after the `n`-th, without a gap; nothing when there is one.

        Those who ask at once share what is read, and the error when that cannot be.
        """
        failures = self._failures
        async with self._sharing:
            if n + 1 not in self._shared:
                if failures != self._failures:
                    raise StateTimeout("nor did it answer to another join")
                try:
                    await self._share(epoch, n, limit)
                except StateError:
                    self._failures += 1
                    raise
        page: list[Kept] = []
        while (kept := self._shared.get(n + 1)) is not None:
            page.append(kept)
            n, limit = kept.n, limit - kept.bytes
        return page if limit >= 0 else []

    async def _share(self, epoch: str, n: int, limit: int) -> None:
        head, kept = await self._read_page(n, limit=limit)
        if head.epoch != epoch or not self._is_at(epoch):
            return
        if sum(k.bytes for k in self._shared.values()) > self.history.max_bytes:
            self._shared.clear()  # somebody asks all the time
        self._shared.update((one.n, one) for one in kept)

    def leave(self) -> None:
        """One of those who ask has its answer; the last one takes the rest along."""
        self.users -= 1
        if not self.users:
            self._shared.clear()

    def _is_at(self, epoch: str) -> bool:
        return self.position is not None and self.position.epoch == epoch

    def _is_ahead(self, position: Position) -> bool:
        assert self.position is not None
        return position.epoch == self.position.epoch and position.n > self.position.n
