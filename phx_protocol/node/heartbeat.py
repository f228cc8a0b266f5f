"""The heartbeat of a node: its lease on the state, and what is looked after at every beat."""

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
from typing import TYPE_CHECKING, Any

import channels
import django

from ..concurrency.tasks import begin, end, is_cancelled
from ..exceptions import StateError, StateRefused, StateTimeout
from ..logs import get_logger
from ..logs.outage import Outage
from ..pubsub.serving import mounted
from ..signals import state_failed, state_recovered
from ..state import State, get_state
from ..version import __version__

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
#: names that a node answers to
NAMES = 20


class Heartbeat:
    """Runs while the node has something to look after; a state that fails never stops it."""

    def __init__(self, node: Node) -> None:
        self.state: State = get_state()
        #: who owns what this process has in the state; another one after a lease that was lost
        self.name = node.name
        #: this and the last ones before it: who was told of one may use it later
        self.names = deque([node.name], maxlen=NAMES)
        self.outage = Outage(
            logger,
            "the state fails, presences and histories stay in this process",
            "the state works again",
            state_failed.emit,
            state_recovered.emit,
        )
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self._has_beaten = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_first = True
        self._counted = 0  # topics whose subscribers the state knows
        self._sockets = 0  # that the state knows of
        self._started_at = time.time()
        self._load = Load()

    @property
    def is_down(self) -> bool:
        """Whether the state fails, and need not be asked before a beat has got through."""
        return self.outage.is_on and self._task is not None

    def start(self) -> None:
        self._node.start()
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
        """Tell now what is new about this node."""
        self._wake.set()

    def has_sockets(self) -> None:
        """Tell now that this node has sockets, unless the last beat did."""
        if not self._sockets:
            self.beat_soon()

    def failed(self, error: StateError) -> None:
        """The state did not do something. If it cannot be reached, it is looked after at once."""
        if isinstance(error, StateRefused):
            logger.error("the state refuses something: %s", error)
        else:
            self.outage.report(error)
            self._wake.set()

    def doubted(self, error: StateError) -> None:
        """The state did not read something that may be large: a beat finds out how it is."""
        if not isinstance(error, StateTimeout):
            return self.failed(error)
        logger.warning("the state did not answer in time: %s", error)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self.beat()
            if self.outage.is_on:
                await asyncio.sleep(min(self.state.beat_every, REPORT))
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Until the next beat is due, or the state fails; what has changed is reported."""
        due = self._node.loop.time() + self.state.beat_every
        while (left := due - self._node.loop.time()) > 0 and not self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, REPORT)):
                    await self._wake.wait()
            await self._guarded(self._report)

    async def beat(self) -> None:
        """Renew the lease, see to what the dead left, and to what is to be looked after."""
        if await self._guarded(self._renew):
            self.outage.report(None)
            for step in (self.state.reap, self._recount, self._report, *self._duties()):
                await self._guarded(step)
        self._has_beaten.set()

    def _duties(self) -> Iterator[Callable[[], Awaitable[None]]]:
        return (part.beat for part in self._node.parts)

    async def _guarded(self, step: Callable[[], Awaitable[Any]]) -> bool:
        """Take `step`; what goes wrong stops no other one. Returns whether nothing did."""
        try:
            await step()
            return True
        except StateError as error:
            self.failed(error)
        except (Exception, asyncio.CancelledError):
            if is_cancelled():
                raise
            logger.exception("the heartbeat goes on, though a part of it failed")
        return False

    async def _renew(self) -> None:
        about = self._about(await self._node.address())
        if not await self.state.beat(self.name, about, first=self._is_first):
            self._lose()
            await self.state.beat(self.name, about, first=True)
        self._is_first = False

    def _lose(self) -> None:
        """The lease is over (the process was paused), or the store was lost."""
        lost = self._take_a_name()
        self._is_first = True  # until it has beaten under that name
        self._counted = 0
        logger.warning("the lease of %s is lost, the node is %s now", lost, self.name)
        self._node.lost()

    def _take_a_name(self) -> str:
        """Have another one; returns that until now."""
        old, self.name = self.name, secrets.token_hex(8)
        self.names.append(self.name)
        return old

    def _about(self, address: str | None) -> dict[str, Any]:
        self._sockets = len(self._node.connections)
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "sockets": self._sockets,
            "address": address,
            "versions": VERSIONS,
            "load": self._load.since_last(),
            "is_draining": self._node.drainer.is_on,
            "serves": bool(mounted),
        }

    async def _recount(self) -> None:
        """Tell all counts again if the state has dropped some."""
        if self._counted and await self.state.count(self.name, {}) < self._counted:
            self._node.pubsub.registry.all_changed()

    async def _report(self) -> None:
        """Tell the state how many subscribers topics have, of those where that has changed."""
        registry = self._node.pubsub.registry
        if self._is_first or not (counts := registry.take_changed()):
            return
        try:
            self._counted = await self.state.count(self.name, counts)
        except StateError:
            registry.not_told(counts)
            raise

    def stop(self) -> Awaitable[None]:
        """The end: nothing of this node stays in the state. It may start anew at once."""
        task, self._task = self._task, None
        left = self._take_a_name()
        self._is_first = True
        self._counted = 0
        self._has_beaten.clear()
        self._node.pubsub.registry.all_changed()
        return self._leave(task, left)

    async def _leave(self, task: asyncio.Task[None] | None, name: str) -> None:
        try:
            if task is not None:
                await end(task)
                await self.state.leave(name)
            if self._task is None:
                await self.state.close()  # it may have been asked without a beat
        except StateError as error:
            self.outage.report(error)


class Load:
    """The share of one CPU that this process uses."""

    def __init__(self) -> None:
        self._then = time.process_time(), time.monotonic()

    def since_last(self) -> float:
        """Since this was asked before; 0.25 for a quarter of one CPU."""
        now = time.process_time(), time.monotonic()
        used, passed = now[0] - self._then[0], now[1] - self._then[1]
        self._then = now
        return round(used / passed, 3) if passed else 0.0
