"""A link over a layer that delivers messages as they arrive, such as ``phx_protocol.layers.RedisLayer``.

A layer is of that kind if it has a method ``deliver_to(channel, listener)``, which returns a
DirectChannel. It comes back to Redis by itself when a connection was lost, and is in all groups of its
channels again when it says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from ..concurrency.tasks import begin, is_cancelled
from .groups import Groups, Key
from .link import LayerLink, Message
from .message import group_name
from .publisher import Entry, Pacer, Publisher
from .turns import Turns

#: seconds after which a failed call is tried again, the first time and at most
SOON, LATEST = 0.1, 5.0


class DirectChannel(Protocol):
    """The channel of a node on such a layer; the node sends from it."""

    @property
    def is_full(self) -> bool:
        """True if publishers should wait for ``room()``."""

    async def room(self) -> None:
        """Wait until less is sent and not answered."""

    def publish(
        self, group: str, message: Message, done: Callable[[Any], None]
    ) -> None:
        """Send to the other channels of `group`; call `done` with the answer, or the error."""

    def server_of(self, group: str) -> object:
        """Return what is the same for all groups on one server."""

    def is_spared(self, group: str) -> bool:
        """Return True if another server is away, and not that of `group`."""

    async def groups_add(self, groups: Iterable[str]) -> None:
        """Join all of `groups`; return when their messages arrive."""

    def group_discard(self, group: str) -> None:
        """Leave `group`."""

    def look_now(self) -> None:
        """Look now if the servers still work."""

    def close(self) -> None:
        """Leave all groups, and end the channel."""


class DirectLink(LayerLink):
    """The channel of one node on such a layer, and the groups that it is in."""

    groups: DirectGroups
    publisher: DirectPublisher

    def __init__(
        self,
        *args: Any,
        take_now: Callable[[Message], None],
        take_each: Callable[[Message], Iterator[None]],
    ) -> None:
        super().__init__(*args)
        #: called by the layer with each message
        self.take = Turns(take_now, take_each).take
        self._is_cut = False

    def _make_groups(self) -> Groups:
        return DirectGroups(self.layer, self.report)

    def _make_publisher(self, name: str, pacer: Pacer) -> Publisher:
        return DirectPublisher(self.layer, name, self.report, pacer)

    def report(self, error: BaseException | None) -> None:
        """Note the result of a call; while the connection is lost, none means that the layer works."""
        if error is not None or not self._is_cut:
            super().report(error)

    def _fails(self, key: Key) -> bool:
        channel = self.groups.channel
        is_spared = channel is not None and channel.is_spared(group_name(key))
        return self.is_failing and not is_spared

    async def _listen(self) -> None:
        """Open the channel of this node; the layer calls ``take`` from then on."""
        delay = SOON
        while True:
            try:
                channel = await self.layer.new_channel()
                break
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                self.report(error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LATEST)
        direct = self.layer.deliver_to(channel, self)
        self.publisher.channel = self.groups.channel = direct
        self.report(None)
        self.groups.connected(channel)
        self._named.set()
        self._lost(False)

    def stop(self) -> Awaitable[None]:
        if self.groups.channel is not None:
            self.groups.channel.close()
        self.publisher.channel = self.groups.channel = None
        self._is_cut = False
        return super().stop()

    def tick(self, now: float) -> None:
        self.groups.sweep(now)

    def add_groups_again(self) -> None:
        """Do nothing: such a layer forgets no group."""

    def look_now(self) -> None:
        if self.groups.channel is not None:
            self.groups.channel.look_now()

    def disconnected(self, error: Exception) -> None:
        self.report(error)
        self._is_cut = True

    def reconnected(self) -> None:
        self._is_cut = False
        self.report(None)
        self.groups.retry()
        # broadcasts sent in between are lost, except those that a history kept
        self._lost(True)


class DirectGroups(Groups):
    """Joins and leaves groups together that are asked for together; no step waits for another one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.channel: DirectChannel | None = None
        self._running: set[Key] = set()  # the topics of these tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._retry = asyncio.Event()

    def retry(self) -> None:
        """Repeat failed steps now."""
        self._retry.set()

    def _start(self) -> None:
        if self._steps and self.channel is not None and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_scheduled = False
        if self.channel is None:
            return
        # one that is away must not hold up those of others
        by_server: dict[object, set[Key]] = {}
        for topic in self._steps.keys() - self._running:
            server = self.channel.server_of(group_name(topic))
            by_server.setdefault(server, set()).add(topic)
        for topics in by_server.values():
            self._running |= topics
            task = begin(self._make_steps(topics, self.channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make_steps(self, topics: set[Key], channel: DirectChannel) -> None:
        delay = SOON
        while topics:
            wanted = topics & self._wanted
            for topic in topics - wanted:
                channel.group_discard(group_name(topic))
                self._actual.discard(topic)
            self._tried |= wanted
            try:
                await channel.groups_add(map(group_name, wanted))
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                self._report(error)
                self._retry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._retry.wait()
                delay = min(2 * delay, LATEST)
            else:
                self._report(None)
                self._actual |= wanted
            self._tried -= wanted
            done = {topic for topic in topics if self._is_as_wanted(topic)}
            topics -= done
            self._running -= done
            for topic in done:
                self._is_done(topic)
            self.done += len(done)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._running.clear()
        super().close()


class DirectPublisher(Publisher):
    """Sends a broadcast at once if it may; others wait, and those of a topic share one message."""

    def __init__(
        self,
        layer: Any,
        node: str,
        report: Callable[[BaseException | None], None],
        pacer: Pacer,
    ) -> None:
        super().__init__(layer, node, report, pacer)
        self.channel: DirectChannel | None = None
        self._has_room = pacer.has_room

    def _take(self, topic: str, entry: Entry) -> None:
        channel = self.channel
        if (
            channel is not None
            and self._task is None
            and not channel.is_full
            and self._has_room(entry.size)
        ):
            self._publish(channel, topic, [entry])
        else:
            super()._take(topic, entry)

    async def _send(self, topic: str, batch: list[Entry]) -> None:
        if self.channel is not None:
            await self.channel.room()
        if self.channel is not None:
            self._publish(self.channel, topic, batch)
        else:
            await super()._send(topic, batch)

    def _publish(self, channel: DirectChannel, topic: str, batch: list[Entry]) -> None:
        """Send `batch` to the other nodes: this one has delivered it already."""
        done = partial(self._answered, batch)
        try:
            channel.publish(group_name(topic), self._message(batch), done)
        except Exception as error:
            done(error)
