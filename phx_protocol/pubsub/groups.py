"""Which groups of the channel layer this process is in: what it wants against what is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .message import group_name

#: seconds for which a group is kept after the last subscriber of its topic has left
LINGER = 5.0


class Groups:
    """One reconcile step at a time for each topic; what fails is tried again until it holds."""

    def __init__(
        self, layer: Any, report: Callable[[BaseException | None], None]
    ) -> None:
        self.layer = layer
        self.channel_name: str | None = None  # while None, nothing can be added
        self._report = report
        self._wanted: set[str] = set()
        self._actual: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._idle: dict[str, float] = {}  # topic -> since when it has no subscriber

    def __contains__(self, topic: str) -> bool:
        return topic in self._actual

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, topic: str) -> asyncio.Task[None] | None:
        """Want `topic`. The task that makes it so, or None when it is so or cannot be yet."""
        self._wanted.add(topic)
        return self._reconcile(topic)

    def used(self, topic: str) -> None:
        self._idle.pop(topic, None)

    def unused(self, topic: str, now: float) -> None:
        """Nobody is subscribed to `topic` now; after LINGER seconds it is wanted no more."""
        self._idle.setdefault(topic, now)

    def sweep(self, now: float) -> None:
        for topic in [t for t, since in self._idle.items() if now - since >= LINGER]:
            del self._idle[topic]
            self._wanted.discard(topic)
            self._reconcile(topic)

    def connected(self, channel_name: str) -> None:
        """The layer may have forgotten everything: add all that is wanted (again)."""
        self.channel_name = channel_name
        self._actual.clear()
        for topic in list(self._wanted):
            self._reconcile(topic)

    def _reconcile(self, topic: str) -> asyncio.Task[None] | None:
        if (topic in self._wanted) == (
            topic in self._actual
        ) or self.channel_name is None:
            return None
        task = self._tasks.get(topic)
        if task is None:
            task = self._tasks[topic] = asyncio.create_task(self._run(topic))
        return task

    async def _run(self, topic: str) -> None:
        delay = 0.1
        try:
            while (wanted := topic in self._wanted) != (topic in self._actual):
                try:
                    if wanted:
                        await self.layer.group_add(group_name(topic), self.channel_name)
                        self._actual.add(topic)
                    else:
                        await self.layer.group_discard(
                            group_name(topic), self.channel_name
                        )
                        self._actual.discard(topic)
                    self._report(None)
                except Exception as error:
                    self._report(error)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, 5)
        finally:
            self._tasks.pop(topic, None)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._actual.clear()
        self._wanted.clear()
        self._idle.clear()
        self.channel_name = None
