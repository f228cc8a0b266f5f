"""Relay: sends the rows of the outbox of one database, of the partitions that it has.

One relay at a time has a partition. It looks at its leases in the transaction in which it reads
the next rows, and deletes those that it has sent in the transaction after that. No transaction is open
while it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from django.db import connections

from ..concurrency import callbacks
from ..concurrency.tasks import begin
from ..logs import get_logger
from ..logs.outage import Outage
from ..signals import outbox_sent, outbox_set_aside, outbox_waiting
from .backlog import backlog
from .leases import Leases
from .rows import BATCH, Batch, Rows
from .sending import Outcome, Sender

if TYPE_CHECKING:
    from ..node.node import Node

Result = TypeVar("Result")

logger = get_logger("phx_protocol.outbox")

#: seconds after which a partition is tried again when a row of it was not sent, or a database that failed
RETRY = 1.0
#: rows that are tried while the layer or the state is away
PROBE = 10
#: a lease is renewed so often before it ends, and nothing is begun in the last part of it
PARTS = 3


class Relay:
    """The relay of one node for one database."""

    def __init__(
        self,
        node: Node,
        database: str,
        *,
        lease: float,
        poll: float,
        changed: Callable[[], None],
        gave: Callable[[], None],
    ) -> None:
        self.database = database
        self._node = node
        self._leases = Leases(database, lease)
        self._rows = Rows(self._leases)
        self._sender = Sender(node)
        #: called when it has other partitions, and when it has given some away
        self._changed, self._gave = changed, gave
        self._executor = ThreadPoolExecutor(1, "phx_protocol.outbox")
        self._wake = asyncio.Event()
        self._outage = Outage(
            logger,
            f"the outbox of {database!r} cannot be read, its rows wait",
            f"the outbox of {database!r} can be read again",
            lambda *args, **kwargs: None,
            lambda *args, **kwargs: None,
        )
        self._due = frozenset[int]()
        self._last = Outcome()
        self._times = Times(poll)
        self._is_ending = False
        self._task = begin(self._run())

    @property
    def held(self) -> frozenset[int]:
        """The partitions that it has."""
        return self._leases.held

    def wake(self, partitions: Iterable[int | None]) -> None:
        """Note that there are new rows in `partitions`; with None, that a partition is free."""
        for partition in partitions:
            if partition is None:
                self._times.renew = 0.0
            else:
                self._due |= {partition} & self.held
        self._wake.set()

    async def end(self) -> None:
        """Finish what has begun, and give the partitions away."""
        self._is_ending = True
        self._wake.set()
        await asyncio.wait({self._task})

    # ------------------------------------------------------------------ the loop

    async def _run(self) -> None:
        try:
            while not self._is_ending:
                self._wake.clear()
                # not before: whoever wakes it during the pause says nothing of the database
                if time.monotonic() >= self._times.paused_until:
                    await self._try()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()
            await self._leave()
        finally:
            self._executor.shutdown(wait=False)

    async def _try(self) -> None:
        try:
            await self._turn()
        except Exception as error:
            self._outage.report(error)
            self._times.pause(RETRY)
        else:
            self._outage.report(None)

    def _pause(self) -> float:
        """Return the seconds until something is to be done."""
        then = 0.0 if self._has_work else self._times.next(bool(self.held))
        return max(then, self._times.paused_until) - time.monotonic()

    @property
    def _ready(self) -> frozenset[int]:
        """The partitions with rows that may be sent now."""
        now, retries = time.monotonic(), self._times.retries
        return frozenset(p for p in self._due if retries.get(p, 0.0) <= now)

    @property
    def _has_work(self) -> bool:
        return bool(self._last.sent or self._last.aside or self._ready)

    async def _turn(self) -> None:
        times = self._times
        if time.monotonic() >= times.renew:
            await self._renew()
        if time.monotonic() >= times.poll and self.held:
            times.poll = time.monotonic() + times.poll_every
            found = await self._in_thread(self._rows.due)
            self._due |= found
        while self._has_work and time.monotonic() < times.renew:
            if self._is_ending:
                return
            await self._step()

    async def _renew(self) -> None:
        before = self.held
        # first: whoever gets a partition would send its rows again
        await self._delete()
        self._times.renew = time.monotonic() + self._leases.seconds / PARTS
        try:
            has_given = await self._in_thread(self._leases.renew)
        except Exception:
            self._times.renew = 0.0
            raise
        if self.held != before:
            self._due = self.held  # there may be rows in those that are new
            self._changed()
        if has_given:
            self._gave()
        if self.held and outbox_waiting.receivers:
            found = await self._in_thread(lambda: backlog(self.database, self.held))
            place = {"database": self.database, "count": found.waiting}
            outbox_waiting.emit(None, **place, age=found.age)

    async def _step(self) -> None:
        """Delete what was sent, read what is next, and send it."""
        deadline = time.monotonic() + self._leases.seconds * (PARTS - 1) / PARTS
        batch = await self._next()
        self._last = await self._sender.send(batch.rows, deadline)
        self._due |= batch.more
        self._tell(batch)
        for id, partition in self._last.unsent.items():
            if id not in self._last.aside:
                self._times.retries[partition] = time.monotonic() + RETRY
            self._due |= {partition}

    def _tell(self, batch: Batch) -> None:
        last = self._last
        if last.sent:
            outbox_sent.emit(None, database=self.database, count=len(last.sent))
        for row in batch.rows if last.aside else ():
            if (reason := last.aside.get(row.id)) is not None:
                broadcast = row.broadcast
                what = {"topic": broadcast.topic, "event": broadcast.event}
                logger.error("the row %d is set aside: %s", row.id, reason)
                where = {"database": self.database, "row": row.id}
                outbox_set_aside.emit(None, **where, **what, reason=reason)

    async def _next(self) -> Batch:
        last, ready = self._last, self._ready
        most = PROBE if last.unsent and not last.sent else BATCH
        # first: rows may be written while it reads
        self._due -= ready
        try:
            batch = await self._in_thread(
                lambda: self._rows.next(ready, last.sent, last.aside, most)
            )
        except Exception:
            self._due |= ready
            raise
        self._last = Outcome()
        return batch

    async def _delete(self) -> None:
        """Delete what was sent, and read nothing."""
        last = self._last
        if last.sent or last.aside:
            await self._in_thread(
                lambda: self._rows.next(frozenset(), last.sent, last.aside)
            )
            last.sent, last.aside = [], {}

    async def _leave(self) -> None:
        """Delete what was sent, and give the partitions away; the leases end by themselves otherwise."""
        with contextlib.suppress(Exception):
            await self._delete()
            await self._in_thread(self._leases.leave)
        with contextlib.suppress(Exception):
            await self._in_thread(connections[self.database].close)
        self._changed()
        self._gave()

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        """Call in the relay's own thread, with the relay's own connection to the database."""
        begun = callbacks.submit(self._executor, lambda: self._with_connection(call))
        if begun is None:
            raise RuntimeError("the process is ending")
        return await asyncio.wrap_future(begun)

    def _with_connection(self, call: Callable[[], Result]) -> Result:
        try:
            result = call()
        except BaseException:
            connections[self.database].close()
            raise
        if not self.held:  # who only waits for a partition needs no connection
            connections[self.database].close()
        return result


class Times:
    """When a relay does what, by the monotonic clock."""

    def __init__(self, poll_every: float) -> None:
        self.poll_every = poll_every
        self.renew = 0.0
        self.poll = 0.0
        #: partition -> when it is tried again
        self.retries: dict[int, float] = {}
        self.paused_until = 0.0

    def pause(self, seconds: float) -> None:
        self.paused_until = time.monotonic() + seconds

    def next(self, has_partitions: bool) -> float:
        """Return when something is to be done next."""
        now = time.monotonic()
        self.retries = {p: then for p, then in self.retries.items() if then > now}
        polls = [self.poll] if has_partitions else []
        return min([self.renew, *polls, *self.retries.values()])
