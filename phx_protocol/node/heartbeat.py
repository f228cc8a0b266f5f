"""Heartbeat: keeps a node's lease on the state, and does the regular work of every beat."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import platform
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import channels
import django

from ..concurrency.tasks import begin, end, is_cancelled
from ..exceptions import StateError, StateMoved, StateRefused, StateTimeout
from ..logs import get_logger
from ..logs.outage import Outage
from ..pubsub.serving import mounted
from ..signals import state_failed, state_recovered
from ..state import State
from ..state.rings import Rings, id_of
from ..version import __version__
from .part import Part, StatePart

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.state")

VERSIONS = {
    "python": platform.python_version(),
    "django": django.__version__,
    "channels": channels.__version__,
    "phx_protocol": __version__,
}
#: seconds between two reports of how many subscribers topics have
REPORT = 1.0
#: how many of its names a node remembers
NAMES = 20


class Heartbeat:
    """The heartbeat of a node on one server of the state. It runs while the node has work to do, even if
    that server fails."""

    def __init__(
        self, node: Node, state: State, is_one_of_several: bool = False
    ) -> None:
        self.node = node
        self.state = state
        #: what keeps something on this server
        self.parts: list[StatePart] = []
        #: the owner of this node's data in the state; a new name after the lease was lost
        self.name = node.name
        #: this name and the ones before it: another process may still use an old one
        self.names = deque([node.name], maxlen=NAMES)
        named = f"the state on {state.server}" if is_one_of_several else "the state"
        self.outage = Outage(
            logger,
            f"{named} fails, presences and histories stay in this process",
            f"{named} works again",
            state_failed.emit,
            state_recovered.emit,
        )
        self._task: asyncio.Task[None] | None = None
        self._has_beaten = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_first = True
        self._counted = 0  # number of topics whose subscribers the state knows
        self._gone: set[str] = set()  # topics that have moved to other servers
        self._sockets = 0  # number of sockets that the state knows
        self._started_at = time.time()
        self._load = Load()

    @property
    def is_down(self) -> bool:
        """True if the state fails: do not call it before a beat has succeeded."""
        return self.outage.is_on and self._task is not None

    def start(self) -> None:
        self.node.start()
        if self._task is None or self._task.done():
            context = contextvars.Context()
            self._task = begin(self._run(), context)

    async def ready(self) -> None:
        """Wait until the first beat is done, or has failed."""
        while not self._has_beaten.is_set():
            self.start()  # it may have been stopped meanwhile
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT):
                    await self._has_beaten.wait()

    def beat_soon(self) -> None:
        """Beat now, to write what is new about this node to the state."""
        self._wake.set()

    def has_sockets(self) -> None:
        """Beat now, if the state does not know yet that this node has sockets."""
        if not self._sockets:
            self.beat_soon()

    @contextlib.contextmanager
    def state_call(self, *, reads: bool = False) -> Iterator[None]:
        """Note a StateError of the ``with`` block, which calls the state, and raise it again.

        While the state fails, raise StateError at once: the block does not run. `reads` says that
        the block only reads.
        """
        if self.is_down:
            raise StateError("the state is failing")
        try:
            yield
        except StateError as error:
            if reads and isinstance(error, StateTimeout):
                # the answer may have been too large: beat, to see if the state works
                logger.warning("the state did not answer in time: %s", error)
                self.beat_soon()
            else:
                self._failed(error)
            raise

    def _failed(self, error: StateError) -> None:
        """Note that the state did not do a step. If it was not reached, beat now."""
        if isinstance(error, StateMoved):
            return  # the placement has learnt of it, and lets all be written again
        if isinstance(error, StateRefused):
            logger.error("the state refused a step: %s", error)
        else:
            self.outage.report(error)
            self.beat_soon()
            # the server may have become a replica, which the layer would not notice by itself at once
            self.node.link.look_now()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self.beat()
            if self.outage.is_on:
                await asyncio.sleep(min(self.state.beat_every, REPORT))
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Wait until the next beat is due or the state fails. Meanwhile report changed counts."""
        due = self.node.loop.time() + self.state.beat_every
        while (left := due - self.node.loop.time()) > 0 and not self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, REPORT)):
                    await self._wake.wait()
            await self._guarded(self._report)

    async def beat(self) -> None:
        """Renew the lease, remove dead nodes, report counts, and run the ``beat`` of each part."""
        is_first = self._is_first
        has_state = await self._guarded(self._renew)
        if has_state and is_first:
            await self._guarded(self._compare)
        if has_state:
            self.outage.report(None)
            for step in (self.state.reap, self._recount, self._report, self._ask):
                await self._guarded(step)
        for part in self._beating():
            if has_state or part.beats_without_state:
                await self._guarded(part.beat)
        self._has_beaten.set()

    def _beating(self) -> list[Part]:
        """Return the parts of this server; with the first one beat the others of the node, too."""
        if self is not self.node.heartbeat:
            return [*self.parts]
        others = (p for p in self.node.parts if not isinstance(p, StatePart))
        return [*self.parts, *others]

    def has(self, name: str) -> bool:
        """Return whether `name` (a topic, a user, an address) is on this server."""
        placement = self.node.placement
        return placement.heartbeat_of(name) is self and placement.is_known(name)

    async def _guarded(self, step: Callable[[], Awaitable[Any]]) -> bool:
        """Run `step`, and log its error. Return True if it succeeded."""
        try:
            await step()
            return True
        except StateError as error:
            self._failed(error)
        except (Exception, asyncio.CancelledError):
            if is_cancelled():
                raise
            logger.exception("the heartbeat goes on, though a part of it failed")
        return False

    async def _renew(self) -> None:
        about = self._about(await self.node.address())
        if not await self.state.beat(self.name, about, first=self._is_first):
            self._lose()
            about["node"] = self.node.heartbeat.name
            await self.state.beat(self.name, about, first=True)
        self._is_first = False

    def _lose(self) -> None:
        """Take a new name: the lease is over (the process was paused), or the store was lost."""
        lost = self._take_a_name()
        self._is_first = True  # until the first beat with the new name
        self._counted = 0
        logger.warning("the lease of %s is lost, the node is %s now", lost, self.name)
        self.node.pubsub.registry.all_changed(self.has)
        # a Redis that lost the leases may have lost the groups of the layer too
        self.node.link.add_groups_again()
        for part in self.parts:
            part.lost()

    def _take_a_name(self) -> str:
        """Take a new name; return the old one."""
        old, self.name = self.name, secrets.token_hex(8)
        self.names.append(self.name)
        return old

    def _about(self, address: str | None) -> dict[str, Any]:
        self._sockets = len(self.node.connections)
        return {
            # its name on the first server, by which it is known
            "node": self.node.heartbeat.name,
            "servers": self.node.placement.servers,
            "ring": self.node.placement.rings.number,
            "knows": sorted(one.state.server for one in self.node.heartbeats),
            "wants": self.node.placement.wanted,
            "round_trips": {
                one.state.server: one.state.round_trip
                for one in self.node.heartbeats
                if one.state.round_trip is not None
            },
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "sockets": self._sockets,
            "address": address,
            "versions": VERSIONS,
            "load": self._load.since_last(),
            "is_draining": self.node.drainer.is_on,
            "serves": bool(mounted),
        }

    async def _compare(self) -> None:
        """Log it if other processes know other servers of the state."""
        nodes, placement = await self.state.nodes(), self.node.placement
        await placement.settled()
        mine, ring = placement.servers, placement.rings.number
        # one that has not learnt of a change yet has another ring; the only server has all topics, whatever
        # it is called
        others = [
            about
            for about in nodes.values()
            if (theirs := about.get("servers", mine)) != mine
            and about.get("ring", 0) == ring
            and max(len(theirs), len(mine)) > 1
        ]
        if others:
            where = f"{others[0]['host']}, pid {others[0]['pid']}"
            logger.error(
                "other processes (%s) have another list of servers in STATE or the channel layer: "
                "a topic may be on two of them",
                where,
            )

    async def _ask(self) -> None:
        """Ask for the servers that the settings want: with the first server in each of its beats, with others
        in their first ones, as all must have been heard of."""
        placement = self.node.placement
        is_due = self is self.node.heartbeat or not self._has_beaten.is_set()
        if placement.asks and is_due:
            if (
                self._task is not None
            ):  # else the node has been stopped during this beat
                self.node.start_heartbeats()
            if not any(beat._is_first for beat in self.node.heartbeats):
                await placement.ask()

    def moved(self, before: Rings) -> None:
        """Give what has moved from this server to the parts of others."""
        id, now = id_of(self.state.server), self.node.placement.rings

        def has_moved(name: str) -> bool:
            return before.place(name).server == id != now.place(name).server

        for part in self.parts:
            try:
                part.moved(has_moved)
            except Exception:
                logger.exception("the servers change, though a part did not follow")
        registry = self.node.pubsub.registry
        self._gone |= set(filter(has_moved, registry.reported))
        registry.all_changed(has_moved)

    async def _recount(self) -> None:
        """Report all counts again if the state has lost some; take back those of topics that moved."""
        registry = self.node.pubsub.registry
        # also of those that are here again, but without subscribers
        gone = {t for t in self._gone if not self.has(t) or t not in registry}
        back = self._gone - gone
        if gone:
            await self.state.count(self.name, dict.fromkeys(gone, 0))
        self._gone -= gone | back  # more may have moved meanwhile
        if self._counted and await self.state.count(self.name, {}) < self._counted:
            registry.all_changed(self.has)

    async def _report(self) -> None:
        """Write to the state what has changed: how many subscribers topics have, and what parts report."""
        if self._is_first:
            return
        registry = self.node.pubsub.registry
        if counts := registry.take_changed(self.has):
            try:
                self._counted = await self.state.count(self.name, counts)
            except StateError:
                registry.report_again(counts)
                raise
        for part in self.parts:
            await self._guarded(partial(part.report, counts))

    def stop(self) -> Awaitable[None]:
        """Stop, and remove everything of this node from the state. It may be started again at once."""
        task, self._task = self._task, None
        left = self._take_a_name()
        self._is_first = True
        self._counted = 0
        self._has_beaten.clear()
        self.node.pubsub.registry.all_changed(self.has)
        for part in self.parts:
            part.stopped()
        return self._leave(task, left)

    async def _leave(self, task: asyncio.Task[None] | None, name: str) -> None:
        try:
            if task is not None:
                await end(task)
                await self.state.leave(name)
            if self._task is None:
                await self.state.close()  # even without a task: it may have been used
        except StateError as error:
            self.outage.report(error)


class Load:
    """The share of one CPU that this process uses."""

    def __init__(self) -> None:
        self._then = time.process_time(), time.monotonic()

    def since_last(self) -> float:
        """Return the share since the last call; 0.25 is a quarter of one CPU."""
        now = time.process_time(), time.monotonic()
        used, passed = now[0] - self._then[0], now[1] - self._then[1]
        self._then = now
        return round(used / passed, 3) if passed else 0.0
