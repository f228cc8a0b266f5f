"""The heartbeat of a node: its lease on the state, and what is looked after at every beat."""

from __future__ import annotations

import asyncio
import contextvars
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..exceptions import StateError
from ..logs import get_logger
from ..outage import Outage
from ..state import State, get_state

if TYPE_CHECKING:
    from .node import PubSub

logger = get_logger("phx_protocol.state")

#: seconds between two reports of how many subscribers topics have
REPORT = 1.0


class Heartbeat:
    """Runs while the node has something to look after; a state that fails never stops it."""

    def __init__(self, node: PubSub) -> None:
        self.state: State = get_state()
        #: who owns what this process has in the state; another one after a lease that was lost
        self.name = node.name
        self.outage = Outage(
            logger,
            "the state fails, presences and histories stay in this process",
            "the state works again",
        )
        #: awaited at every beat; each may raise StateError
        self.duties: list[Callable[[], Awaitable[None]]] = []
        #: called when everything that this process had in the state is gone
        self.on_loss: list[Callable[[], None]] = []
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self._has_beaten = asyncio.Event()
        self._is_first = True
        self._started_at = time.time()
        self._told: dict[str, int] = {}  # topic -> subscribers, as the state has it
        self._told_at_change = -1

    @property
    def is_down(self) -> bool:
        """Whether the state fails, and need not be asked before a beat has got through."""
        return self.outage.is_on and self._task is not None

    def start(self) -> None:
        self._node.start()
        if self._task is None or self._task.done():
            context = contextvars.Context()
            self._task = self._node.loop.create_task(self._run(), context=context)

    async def ready(self) -> None:
        """Wait until the first beat is done, or has failed."""
        self.start()
        await self._has_beaten.wait()

    async def _run(self) -> None:
        while True:
            await self.beat()
            pause = self.state.beat_every
            if self.outage.is_on:
                pause = min(pause, REPORT)
            next_beat = self._node.loop.time() + pause
            while (left := next_beat - self._node.loop.time()) > 0:
                await asyncio.sleep(min(left, REPORT))
                await self._guarded(self._report)

    async def beat(self) -> None:
        """Renew the lease, see to what the dead left, and to what is to be looked after."""
        await self._guarded(self._beat)
        self._has_beaten.set()

    async def _guarded(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Take `step`, which says whether it asked the state for anything."""
        try:
            has_asked = await step()
        except StateError as error:
            self.outage.report(error)
        except Exception:
            logger.exception("the heartbeat goes on, though a part of it failed")
        else:
            if has_asked:
                self.outage.report(None)

    async def _beat(self) -> bool:
        about = self._about(await self._node.address())
        if not await self.state.beat(self.name, about, first=self._is_first):
            self._lose()
            await self.state.beat(self.name, about, first=True)
        self._is_first = False
        await self.state.reap()
        await self._report()
        for duty in self.duties:
            await duty()
        return True

    def _lose(self) -> None:
        """The lease is over (the process was paused), or the store was lost."""
        lost, self.name = self.name, secrets.token_hex(8)
        logger.warning("the lease of %s is lost, the node is %s now", lost, self.name)
        self._told.clear()
        self._told_at_change = -1
        for lose in self.on_loss:
            lose()

    def _about(self, address: str | None) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "sockets": len(self._node.sockets),
            "address": address,
        }

    async def _report(self) -> bool:
        """Tell the state how many subscribers topics have, if that has changed."""
        registry = self._node.registry
        if registry.changes == self._told_at_change or self._is_first:
            return False
        changes, now = registry.changes, registry.counts()
        told = {topic: 0 for topic in self._told if topic not in now}
        told |= {t: count for t, count in now.items() if self._told.get(t) != count}
        if told:
            await self.state.count(self.name, told)
        self._told, self._told_at_change = now, changes
        return bool(told)

    async def stop(self) -> None:
        """The end: nothing of this node stays in the state. It may have started anew meanwhile."""
        if self._task is None:
            return
        task, self._task = self._task, None
        left, self.name = self.name, secrets.token_hex(8)
        self._has_beaten.clear()
        self._is_first = True
        self._told.clear()
        self._told_at_change = -1
        await end(task)
        try:
            await self.state.leave(left)
            if self._task is None:
                await self.state.close()
        except StateError as error:
            self.outage.report(error)


async def end(task: asyncio.Task[None]) -> None:
    # below Python 3.12 redis-py's wait_for() swallows a cancellation now and then
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
