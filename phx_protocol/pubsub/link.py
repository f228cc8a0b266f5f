"""Links: how a node sends to the other nodes and hears from them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from channels.layers import InMemoryChannelLayer

from ..concurrency.tasks import begin, end, is_cancelled, within
from ..logs import get_logger
from ..logs.outage import Outage
from ..signals import layer_failed, layer_recovered
from ..wire.messages import Broadcast
from .cuts import Cuts
from .groups import Groups, Key
from .message import group_name
from .publisher import Pacer, Publisher

logger = get_logger("phx_protocol.pubsub")

#: seconds that a join on a new topic waits for the layer while no step makes progress
READY_TIMEOUT = 2.0
#: number of failures in a row after which the layer may have forgotten the channel of a node
FORGOTTEN = 3
#: most seconds after which every group is added again (layers let them expire)
REFRESH = 600.0

Message = dict[str, Any]


class LayerLink:
    """The link of a node to the other nodes over the channel layer: its channel, and the groups it is in.

    While the layer fails, the listener waits longer after each try. Then it adds every group again.
    """

    def __init__(
        self,
        layer: Any,
        name: str,
        take: Callable[[Message], Awaitable[None]],
        lost: Callable[[bool], None],
        pacer: Pacer,
    ) -> None:
        self.layer = layer
        self.name = name  # of the node
        self.outage = Outage(
            logger,
            "the channel layer fails, broadcasts stay in this process",
            "the channel layer works again",
            layer_failed.emit,
            layer_recovered.emit,
        )
        self.groups = self._make_groups()
        self.publisher = self._make_publisher(name, pacer)
        self._take = take
        # called when messages may have been lost; with True if the layer itself kept working
        self._lost = lost
        self._cuts = Cuts(layer, self._subscription_was_cut)
        self._listener: asyncio.Task[None] | None = None
        # a new channel that works although the current one fails
        self._spare: str | None = None
        self._refreshed_at = 0.0
        self._named = asyncio.Event()

    def _make_groups(self) -> Groups:
        return Groups(self.layer, self.report)

    def _make_publisher(self, name: str, pacer: Pacer) -> Publisher:
        return Publisher(self.layer, name, self.report, pacer)

    # ------------------------------------------------------------------ sending

    @property
    def is_full(self) -> bool:
        """True if so much waits for the layer that senders must wait as well."""
        return self.publisher.is_full

    def publish(self, broadcast: Broadcast) -> asyncio.Future[None] | None:
        """Send `broadcast`. The future is done when the layer has accepted it. None: no need to wait."""
        return self.publisher.publish(broadcast)

    async def publish_together(self, broadcasts: Sequence[Broadcast]) -> None:
        """Send broadcasts of one topic in one message; return when the layer has accepted it.

        Raises BroadcastError, or EncodeError for text with lone surrogates.
        """
        await self.publisher.publish_together(broadcasts)

    async def neighbours(self) -> list[str]:
        """Return the addresses of the other processes on the local bus that serve clients."""
        return []

    async def cast(self, key: Key, message: Message) -> None:
        """Send `message` to the nodes that listen to `key`. Raises any error of the layer."""
        await self.layer.group_send(group_name(key), message)

    async def send(self, address: str, message: Message) -> None:
        """Send `message` to the node at `address`. Raises any error of the layer."""
        await self.layer.send(address, message)

    # ------------------------------------------------------------------- the groups

    def is_ready(self, key: Key) -> bool:
        """Return True if messages of other processes for `key` arrive here, or there can be none."""
        return self.layer is None or key in self.groups

    async def ready(self, key: Key) -> None:
        """Wait until messages for `key` arrive here, READY_TIMEOUT at most if no step makes progress.

        If the layer is down, return at once.
        """
        if not self.is_ready(key):
            await self._done(self.groups.add(key), lambda: self._fails(key))

    @property
    def is_settled(self) -> bool:
        """True if no topic waits for the layer."""
        return self.groups.last() is None or self.is_failing

    async def settled(self) -> None:
        """Wait for the topics that wait for the layer now, READY_TIMEOUT at most without progress."""
        last = self.groups.last()
        if last is not None:
            await self._done(last, lambda: self.is_failing)

    def _fails(self, key: Key) -> bool:
        """Return True if there is no use in waiting for a step of `key`: the layer fails."""
        return self.is_failing

    async def _done(
        self, step: asyncio.Future[None], fails: Callable[[], bool]
    ) -> None:
        while not fails():
            done = self.groups.done
            if await within(READY_TIMEOUT, step):
                return step.result()
            # no step finished meanwhile: the layer is stuck, not just slow
            if self.groups.done == done:
                return self.report(TimeoutError())

    def used(self, key: Key) -> None:
        """Note that this node has a subscriber for `key`."""
        if self.layer is not None:
            self.groups.used(key)

    def unused(self, key: Key) -> None:
        """Note that this node has no subscriber for `key` now; a new one may come soon."""
        if self.layer is not None:
            self.groups.unused(key, asyncio.get_running_loop().time())

    # ----------------------------------------------------------------- the listener

    @property
    def is_failing(self) -> bool:
        """True if the last call of the layer failed."""
        return self.outage.is_on

    def report(self, error: BaseException | None) -> None:
        """Note the result of the last call of the layer: the error that it raised, or None."""
        self.outage.report(error)

    def look_now(self) -> None:
        """Look now if the layer works, as something else on its servers has failed."""

    async def address(self) -> str | None:
        """Return the layer channel on which other nodes reach this one; None if the layer fails."""
        if self.groups.channel_name is None and not self.is_failing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_TIMEOUT):
                    await self._named.wait()
        return self.groups.channel_name

    def start(self) -> None:
        """Listen to the layer until ``stop``."""
        if self.layer is not None:
            # In an empty context: the listener outlives the request that started it.
            self._listener = begin(self._listen(), contextvars.Context())

    def stop(self) -> Awaitable[None]:
        """Stop listening. Return an awaitable for the end of the listener."""
        listener, self._listener = self._listener, None
        self._named.clear()
        self.groups.close()
        return end(listener)

    def tick(self, now: float) -> None:
        """Leave groups that are not used any more, and add groups that the layer may have forgotten."""
        self.groups.sweep(now)
        self._cuts.watch()
        expiry = getattr(self.layer, "group_expiry", None) or 2 * REFRESH
        if now - self._refreshed_at > min(expiry / 2, REFRESH):
            self._refreshed_at = now
            self.add_groups_again()

    def add_groups_again(self) -> None:
        """Add every group once more: the layer may have forgotten them."""
        if self.groups.channel_name is not None:
            self.groups.connected(self.groups.channel_name)

    async def _listen(self) -> None:
        """Receive messages until cancelled. When the layer fails, wait, try again, add every group again.

        ``receive()`` is not cancelled before that: a layer would drop its buffer.
        """
        delay, failures = 0.1, 0
        while True:
            try:
                channel = await self._channel(failures)
                self._refreshed_at = asyncio.get_running_loop().time()
                self.groups.connected(channel)
                self._named.set()
                self._cuts.watch()
                self._lost(False)
                while True:
                    message = await self.layer.receive(channel)
                    self.report(None)
                    delay, failures, self._spare = 0.1, 0, None
                    await self._take(message)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                self.report(error)
                failures += 1
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5)

    async def _channel(self, failures: int) -> str:
        """Return the channel of this node: the current one, or a new one if the layer forgot that.

        The current one is kept as long as possible, because clients have it in their tokens. The
        layer has forgotten it if it fails although a new one works.
        """
        channel, spare = self.groups.channel_name, self._spare
        if channel is None or (failures and spare is not None):
            self._spare = None
            new: str = spare or await self.layer.new_channel()
            if channel is not None:
                logger.warning(
                    "the channel layer forgot this node, its channel is %s now", new
                )
            return new
        if failures >= FORGOTTEN:
            async with asyncio.timeout(READY_TIMEOUT):
                spare = await self.layer.new_channel()
                await self.layer.send(spare, {"type": "phx.probe"})
                await self.layer.receive(spare)
            self._spare = spare
        return channel

    def _subscription_was_cut(self) -> None:
        """Report a loss: broadcasts sent in between are lost, except those that a history kept."""
        lost = "Redis ended the subscription of this process, messages sent meanwhile are lost"
        self.report(ConnectionError(lost))
        self.report(None)
        self._lost(True)


def is_in_memory(layer: Any) -> bool:
    """Return True if messages on `layer` stay in this process."""
    return layer is None or isinstance(layer, InMemoryChannelLayer)
