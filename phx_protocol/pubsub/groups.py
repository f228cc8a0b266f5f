"""Which groups of the channel layer this process is in: what it wants against what is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..concurrency.tasks import begin, is_cancelled
from .message import Internal, group_name

#: whose group it is: a topic's, or one that only nodes know of
Key = str | Internal

#: seconds for which a group is kept after the last subscriber of its topic has left
LINGER = 5.0


class Groups:
    """One step at a time, in the order they were asked for; what fails is tried again."""

    def __init__(
        self, layer: Any, report: Callable[[BaseException | None], None]
    ) -> None:
        self.layer = layer
        self.channel_name: str | None = None  # while None, nothing can be done
        self._report = report
        self._wanted: set[Key] = set()
        self._actual: set[Key] = set()
        self._idle: dict[Key, float] = {}  # topic -> since when it has no subscriber
        # topic -> done when it is as wanted
        self._steps: dict[Key, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._tried: set[Key] = (
            set()
        )  # of which the layer was asked, and has not answered
        self.done = 0  # steps so far

    def __contains__(self, topic: Key) -> bool:
        # not one that is being discarded right now
        return topic in self._actual and topic in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, topic: Key) -> asyncio.Future[None]:
        """Want `topic`; the future is done when broadcasts on it arrive here."""
        self._wanted.add(topic)
        return self._step(topic)

    def last(self) -> asyncio.Future[None] | None:
        """What is done when all that was asked for so far is done, or None when it is."""
        return next(reversed(self._steps.values()), None)

    def used(self, topic: Key) -> None:
        """Somebody is subscribed to `topic`, however long ago it was added."""
        self._idle.pop(topic, None)
        if topic not in self._wanted:
            self.add(topic)

    def unused(self, topic: Key, now: float) -> None:
        """Nobody is subscribed to `topic` now; after LINGER seconds it is wanted no more."""
        self._idle[topic] = now

    def sweep(self, now: float) -> None:
        for topic in [t for t, since in self._idle.items() if now - since >= LINGER]:
            del self._idle[topic]
            self._wanted.discard(topic)
            if topic in self._actual or topic in self._tried:
                self._step(topic)
            else:  # the layer never heard of it
                self._is_done(topic)

    def connected(self, channel_name: str) -> None:
        """The layer may have forgotten everything: add all that is wanted (again)."""
        self.channel_name = channel_name
        self._actual.clear()
        for topic in self._wanted:
            self._step(topic)
        self._start()

    def _step(self, topic: Key) -> asyncio.Future[None]:
        future = self._steps.get(topic)
        if future is None:
            future = self._steps[topic] = asyncio.get_running_loop().create_future()
            self._start()
        return future

    def _start(self) -> None:
        if self._task is None and self._steps and self.channel_name is not None:
            self._task = begin(self._run())

    async def _run(self) -> None:
        delay = 0.1
        try:
            while self._steps:
                topic = next(iter(self._steps))
                try:
                    await self._reconcile(topic)
                except (Exception, asyncio.CancelledError) as error:
                    if is_cancelled() or self._task is not asyncio.current_task():
                        raise
                    self._report(error)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, 5)
                else:
                    delay = 0.1
                    self._is_done(topic)
                    self.done += 1
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    def _is_done(self, topic: Key) -> None:
        step = self._steps.pop(topic, None)
        if (
            step is not None and not step.done()
        ):  # who waited for it may have been cancelled
            step.set_result(None)

    async def _reconcile(self, topic: Key) -> None:
        while not self._is_as_wanted(topic):
            wanted = topic in self._wanted
            self._tried.add(topic)
            if wanted:
                await self.layer.group_add(group_name(topic), self.channel_name)
            else:
                await self.layer.group_discard(group_name(topic), self.channel_name)
            if self._task is not asyncio.current_task():
                # closed meanwhile, and redis-py's ``wait_for`` swallowed the cancellation
                raise asyncio.CancelledError
            self._tried.discard(topic)
            (self._actual.add if wanted else self._actual.discard)(topic)
            self._report(None)

    def _is_as_wanted(self, topic: Key) -> bool:
        if topic in self._wanted:
            return topic in self._actual
        return topic not in self._actual and topic not in self._tried

    def close(self) -> None:
        """Nothing is wanted any more; of the layer's channel others get rid."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for future in self._steps.values():
            future.cancel()
        for collection in (
            self._steps,
            self._actual,
            self._wanted,
            self._tried,
            self._idle,
        ):
            collection.clear()
        self.channel_name = None
