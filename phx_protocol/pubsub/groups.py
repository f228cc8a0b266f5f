"""Groups: the groups of the channel layer that this process wants to be in, and those it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from typing import Any

from ..concurrency.tasks import begin, is_cancelled
from .message import Internal, group_name

#: what a group belongs to: a topic, or only the nodes (Internal)
Key = str | Internal

#: seconds for which a group is kept after the last subscriber of its topic has left
LINGER = 5.0
#: most characters of the names of topics that linger; the oldest is left for a newer one
LINGERING = 256 * 1024
#: steps, and groups to leave, after which others have the event loop
AT_ONCE = 200


class Lingering:
    """The topics without subscribers whose groups are kept for a while, the oldest first."""

    __slots__ = ("_since", "size")

    def __init__(self) -> None:
        self._since: dict[Key, float] = {}  # topic -> when its last subscriber left
        self.size = 0  # characters of all names

    def __iter__(self) -> Iterator[Key]:
        return iter(self._since)

    def add(self, topic: Key, now: float) -> None:
        self.discard(topic)
        self._since[topic] = now
        self.size += len(topic)

    def discard(self, topic: Key) -> None:
        if self._since.pop(topic, None) is not None:
            self.size -= len(topic)

    def late(self, now: float) -> Iterator[Key]:
        """Return those that have lingered for LINGER seconds at `now`."""
        since = self._since.items()
        return (topic for topic, _ in takewhile(lambda s: now - s[1] >= LINGER, since))


class Groups:
    """Joins and leaves groups of the layer, one step at a time, in order; a failed step is repeated."""

    def __init__(
        self, layer: Any, report: Callable[[BaseException | None], None]
    ) -> None:
        self.layer = layer
        self.channel_name: str | None = None  # while None, no step can be made
        self._report = report
        self._wanted: set[Key] = set()
        self._actual: set[Key] = set()
        self._lingering = Lingering()
        # topic -> future that is done when the group is as wanted
        self._steps: dict[Key, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        # steps that were sent to the layer and have no answer yet
        self._tried: set[Key] = set()
        self.done = 0  # number of finished steps

    def __contains__(self, topic: Key) -> bool:
        # False while the group is being discarded
        return topic in self._actual and topic in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, topic: Key) -> asyncio.Future[None]:
        """Join the group of `topic`. The future is done when its broadcasts arrive here."""
        self._wanted.add(topic)
        return self._step(topic)

    async def join(self, topic: Key) -> bool:
        """Join the group of `topic` at once. Return False if that takes a step: it waits for one, or it fails.

        It does not wait for the steps of other topics: joins are answered in the order in which they came.
        """
        channel = self.channel_name
        if channel is None or topic in self._steps:
            return False
        self._wanted.add(topic)
        try:
            await self.layer.group_add(group_name(topic), channel)
        except Exception as error:
            self._report(error)
            return False
        self._report(None)
        if self.channel_name == channel:
            self._actual.add(topic)
        return topic in self

    def last(self) -> asyncio.Future[None] | None:
        """Return the future of the last waiting step, or None if no step waits."""
        return next(reversed(self._steps.values()), None)

    def used(self, topic: Key) -> None:
        """Note that `topic` has a subscriber; join its group if necessary."""
        self._lingering.discard(topic)
        if topic not in self._wanted:
            self.add(topic)

    def unused(self, topic: Key, now: float) -> None:
        """Note that `topic` has no subscriber since `now`. LINGER seconds later its group is left."""
        self._lingering.add(topic, now)
        while self._lingering.size > LINGERING:
            self._leave(next(iter(self._lingering)))

    def sweep(self, now: float) -> None:
        """Leave the groups whose topics have lingered for long, AT_ONCE in a turn of the loop."""
        for topic in list(islice(self._lingering.late(now), AT_ONCE)):
            self._leave(topic)
        if next(self._lingering.late(now), None) is not None:
            asyncio.get_running_loop().call_soon(self.sweep, now)

    def _leave(self, topic: Key) -> None:
        self._lingering.discard(topic)
        self._wanted.discard(topic)
        if topic in self._actual or topic in self._tried:
            self._step(topic)
        else:  # the layer does not know this group
            self._is_done(topic)

    def connected(self, channel_name: str) -> None:
        """Use the channel `channel_name`, and join all wanted groups (again) with it."""
        self.channel_name = channel_name
        self._actual.clear()
        for topic in self._wanted:
            self._step(topic)
        self._start()

    def retry(self) -> None:
        """Repeat a failed step now: the layer works again."""

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
                    if self.done % AT_ONCE == 0:  # a layer in memory never waits
                        await asyncio.sleep(0)
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    def _is_done(self, topic: Key) -> None:
        step = self._steps.pop(topic, None)
        # a cancelled waiter may have cancelled it
        if step is not None and not step.done():
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
                # ``close`` was called, but redis-py's ``wait_for`` swallowed the cancellation
                raise asyncio.CancelledError
            self._tried.discard(topic)
            (self._actual.add if wanted else self._actual.discard)(topic)
            self._report(None)

    def _is_as_wanted(self, topic: Key) -> bool:
        if topic in self._wanted:
            return topic in self._actual
        return topic not in self._actual and topic not in self._tried

    def close(self) -> None:
        """Forget all groups and stop; the layer expires the channel by itself."""
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
        ):
            collection.clear()
        self._lingering = Lingering()
        self.channel_name = None
