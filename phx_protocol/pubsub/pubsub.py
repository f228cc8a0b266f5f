"""PubSub: delivers broadcasts, in this process at once, to the other processes over a link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from ..exceptions import EncodeError
from ..signals import broadcast_delivered, broadcast_sent, change_delivered
from ..state import Row
from ..wire.messages import Broadcast
from . import message as layer_message
from .latencies import Latencies
from .link import LayerLink
from .registry import Registry, Subscriber, is_carried
from .replies import Replier, Replies
from .sequence import Sequencer
from .traffic import Traffic

#: after this many deliveries, yield to the loop if it was held longer than YIELD_SECONDS
YIELD_AFTER = 1000
YIELD_SECONDS = 0.015


class Sender(Subscriber, Protocol):
    """A channel that broadcasts."""

    @property
    def id(self) -> str: ...


class PubSub:
    """The subscribers of one node. Local delivery is synchronous and works even if the layer fails."""

    def __init__(self, name: str, link: LayerLink) -> None:
        self.name = name  # of the node, to recognize messages that it sent itself
        self.registry = Registry()
        self.traffic = Traffic()
        self.latencies = Latencies()
        self.replies = Replies()
        #: decides the order of kept broadcasts; ``history`` replaces it
        self.sequencer = Sequencer(self.deliver_local)
        #: called with a topic whose last subscriber here has left
        self.on_unused: Callable[[str], None] = _ignore
        self._link = link
        self._delivered = 0
        self._yielded_at = 0.0

    # -------------------------------------------------------------- subscribers

    def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        self.registry.add(topic, subscriber)
        self._link.used(topic)

    def unsubscribe(self, topic: str, subscriber: Subscriber) -> None:
        self.registry.discard(topic, subscriber)
        if topic not in self.registry:
            self._link.unused(topic)
            self.on_unused(topic)

    # --------------------------------------------------------------- broadcasts

    async def broadcast(
        self, broadcast: Broadcast, history: Any, exclude: Sender | None = None
    ) -> None:
        """Deliver here at once and queue for the layer; a failing layer is not an error here.

        A broadcast that `history` keeps is kept first. Raises EncodeError if it cannot be encoded
        for any client here.
        """
        # `exclude` applies only here: no other process has that channel
        published = await self.publish(broadcast, history, exclude)
        if published is not None and self._link.is_full:
            await asyncio.wait({published})
        await self.yield_to_loop()

    async def publish(
        self,
        broadcast: Broadcast,
        history: Any,
        exclude: Sender | None = None,
    ) -> asyncio.Future[None] | None:
        """Deliver here and queue for the layer. Return a future: it is done when the layer accepts it.

        Raises EncodeError if it is larger than MAX_BROADCAST_SIZE, and in the cases of ``broadcast``.
        """
        _is_sent(broadcast)
        if history is not None and history.keeps(broadcast):
            # by its id, as the client may have another channel when this is delivered
            if exclude is not None:
                broadcast = msgspec.structs.replace(broadcast, sender=exclude.id)
            return await asyncio.shield(self.sequencer.append(history, broadcast))
        try:
            self.deliver_local(broadcast, exclude, strict=True)
        except EncodeError:
            # clients of other processes may be able to get it
            if is_carried(broadcast):
                self.publish_remote(broadcast)
            raise
        return self.publish_remote(broadcast)

    def append_row(
        self, broadcast: Broadcast, history: Any, row: Row
    ) -> asyncio.Future[asyncio.Future[None] | None]:
        """Keep a row of an outbox and deliver it, unless the history has had it. Raises EncodeError.

        The future has an error if it could not be kept; then nothing was delivered.
        """
        _is_sent(broadcast)
        return self.sequencer.append(history, broadcast, row)

    async def publish_rows(self, broadcasts: Sequence[Broadcast]) -> None:
        """Send rows of an outbox, all of one topic, in one message, and deliver them here after that.

        Raises BroadcastError, and then nothing was delivered.
        """
        for broadcast in broadcasts:
            _is_sent(broadcast)
        await self._link.publish_together(broadcasts)
        for broadcast in broadcasts:
            self.deliver_local(broadcast)

    def publish_remote(self, broadcast: Broadcast) -> asyncio.Future[None] | None:
        """Send `broadcast` to the other nodes."""
        return self._link.publish(broadcast)

    async def take(self, message: dict[str, Any]) -> None:
        """Deliver the broadcasts in a message of another node. Raises Unreadable."""
        for _ in self.take_each(message):
            await self.yield_to_loop()

    def take_each(self, message: dict[str, Any], keeps: bool = True) -> Iterator[None]:
        """Deliver the broadcasts in a message of another node, one in each step. Raises Unreadable.

        `keeps` is False if the sender has histories of its own, which this process does not see.
        """
        if message.get("node") != self.name:
            for broadcast in layer_message.unpack(message):
                self._take(broadcast, keeps)
                yield

    def take_now(self, message: dict[str, Any], keeps: bool = True) -> None:
        """Deliver the broadcasts in a message of another node at once. Raises Unreadable."""
        if message.get("node") != self.name:
            for broadcast in layer_message.unpack(message):
                self._take(broadcast, keeps)

    def _take(self, broadcast: Broadcast, keeps: bool) -> None:
        if keeps and broadcast.offset is None:
            self.sequencer.warn_if_not_kept(broadcast)
        self.deliver(broadcast, strict=False)

    def deliver(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = True,
    ) -> None:
        """Deliver to the subscribers of this process: now, or in the order of offsets if it has one."""
        if broadcast.offset is None:
            self.deliver_local(broadcast, exclude, strict)
        else:
            self.sequencer.offer(broadcast)

    def deliver_local(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = False,
    ) -> None:
        """Deliver to the subscribers of this process now."""
        delivered = self.registry.fan_out(broadcast, exclude, strict)
        self._delivered += delivered
        self.traffic.add(broadcast.topic, delivered)
        if broadcast_delivered.receivers:
            broadcast_delivered.emit(
                None,
                topic=broadcast.topic,
                event=broadcast.event,
                subscribers=delivered,
                latency=broadcast.sent_at and max(0.0, time.time() - broadcast.sent_at),
            )
        if broadcast.committed_at is not None and delivered:
            self._measure(broadcast, broadcast.committed_at)

    def _measure(self, broadcast: Broadcast, committed_at: float) -> None:
        """Note how long a change took to get here."""
        latency = max(0.0, time.time() - committed_at)
        self.latencies.add(broadcast.topic, latency)
        if change_delivered.receivers:
            change_delivered.emit(
                None,
                topic=broadcast.topic,
                event=broadcast.event,
                latency=latency,
                unsent=max(0.0, (broadcast.sent_at or committed_at) - committed_at),
            )

    async def yield_to_loop(self) -> None:
        """Let the loop run other tasks, if deliveries have blocked it for a while."""
        if self._delivered >= YIELD_AFTER:
            self._delivered = 0
            if time.monotonic() - self._yielded_at > YIELD_SECONDS:
                await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    # ------------------------------------------------------------ later replies

    def expect_reply(self, replier: Replier) -> str:
        """Remember `replier`. Return the layer channel to which replies for it are sent."""
        self.replies.expect(replier)
        return self._link.groups.channel_name or self.name


def _is_sent(broadcast: Broadcast) -> None:
    """Note that `broadcast` is sent. Raises EncodeError if it is too large."""
    layer_message.require_size(broadcast)
    if broadcast_sent.receivers:
        topic, event = broadcast.topic, broadcast.event
        size = len(memoryview(broadcast.payload))
        broadcast_sent.emit(None, topic=topic, event=event, size=size)


def _ignore(topic: str) -> None: ...
