"""PubSub: the node of this process (event loop) on the channel layer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from channels.layers import InMemoryChannelLayer, get_channel_layer

from ..concurrency.tasks import begin, is_cancelled
from ..conf import options
from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.outage import Outage
from ..logs.printable import shown
from ..pubsub import message as layer_message
from ..pubsub.cuts import Cuts
from ..pubsub.groups import LINGER, Groups
from ..pubsub.publisher import Publisher
from ..pubsub.registry import Registry, Subscriber, is_carried
from ..pubsub.replies import Replier, Replies
from ..pubsub.sequence import Sequencer
from ..pubsub.traffic import Traffic
from ..signals import broadcast_delivered, broadcast_sent, layer_failed, layer_recovered
from ..wire.messages import Broadcast
from .commands import Orders
from .connections import OpeningSocket, OpenSocket, Sockets
from .drain import Drainer
from .heartbeat import Heartbeat, end
from .pacer import Pacer
from .rpc import NODES, Relay
from .shutdown import stand_in_front

logger = get_logger("phx_protocol.pubsub")

#: seconds without any progress that a join waits for the layer when its topic is new here
READY_TIMEOUT = 2.0
#: failures in a row after which the layer may have forgotten the channel of a node
FORGOTTEN = 3
#: deliveries after which it is asked whether the others wait for too long, and how long that is
TURN = 1000
TURN_SECONDS = 0.015
#: seconds after which every group is added again at the latest (layers forget them)
REFRESH = 600.0


#: what else every node has: name -> how it is made
extensions: dict[str, Callable[[PubSub], Any]] = {}


class Sender(Subscriber, Protocol):
    """A channel that broadcasts."""

    @property
    def id(self) -> str: ...


class PubSub:
    """Subscribers of this process, and the link to the others.

    Local delivery is synchronous and works whatever the layer does. The listener behind it
    starts with the first subscriber and ends when none has been there for a while.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.name = secrets.token_hex(8)
        self.registry = Registry()
        self.traffic = Traffic()
        self.layer: Any = get_channel_layer(options().channel_layer)
        # Own broadcasts never enter an in-memory layer: local delivery has done it all.
        self.is_alone = is_in_memory(self.layer)
        self.outage = Outage(
            logger,
            "the channel layer fails, broadcasts stay in this process",
            "the channel layer works again",
            layer_failed.emit,
            layer_recovered.emit,
        )
        self.report = self.outage.report
        self.groups = Groups(self.layer, self.report)
        self.cuts = Cuts(self.layer, self._subscription_was_cut)
        self._listener: asyncio.Task[None] | None = None
        self._ending: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spare: str | None = (
            None  # a channel that works while the one there is fails
        )
        self._refreshed_at = 0.0
        self._named = asyncio.Event()
        self._delivered = 0
        self._turn_began = 0.0
        self._ids = itertools.count(1)
        self.replies = Replies()
        self.sockets = Sockets(self.is_shown)
        self.relay = Relay(self)
        self.orders = Orders(self)
        self.pacer = Pacer(self)
        self.publisher = Publisher(
            self.layer, self.name, self.report, self.pacer.room_for
        )
        #: what the transports keep for this node
        self.transports: dict[str, Any] = {}
        #: called with a topic whose last subscriber here has left
        self.on_unused: list[Callable[[str], None]] = []
        self.heartbeat = Heartbeat(self)
        # a Redis that lost the leases may have lost the groups of the layer too
        self.heartbeat.on_loss.append(self._add_groups_again)
        #: the order of broadcasts that are kept, which ``history`` puts in its place
        self.ordered = Sequencer(self.deliver_now)
        self.drainer = Drainer(self)
        self._is_in_front = False  # of the server's handlers of signals
        # what keeps the listener alive beside subscribers: a session, a request
        self._holders: set[Any] = set()
        self._extensions: dict[str, Any] = {}
        for name in extensions:
            self.extension(name)

    def extension(self, name: str) -> Any:
        """What ``extensions[name]`` made for this node."""
        if name not in self._extensions:
            self._extensions[name] = extensions[name](self)
        return self._extensions[name]

    def local(self) -> dict[str, PubSub]:
        """The nodes of this process by their names, those that serve nobody (any more) too."""
        return {node.heartbeat.name: node for node in (self, *all_nodes())}

    def others(self) -> list[PubSub]:
        """The nodes of the other event loops of this process that serve somebody."""
        return [node for node in serving_nodes() if node is not self]

    # ----------------------------------------------------------------- sockets

    async def expect_socket(self, opening: OpeningSocket) -> None:
        """Hear of orders that concern a socket which may open, until it does or is discarded."""
        self.sockets.expect(opening)
        if self.layer is not None:
            self.start()
            self.groups.used(NODES)
            await self._heard()

    def add_socket(self, socket: OpenSocket) -> None:
        self.sockets.add(socket)
        self.heartbeat.has_sockets()
        if not self._is_in_front:
            self._is_in_front = True
            stand_in_front(self)
        self.groups.used(NODES)

    def discard_socket(self, socket: OpenSocket) -> None:
        self.sockets.discard(socket)
        self._need_no_orders()

    def discard_opening(self, opening: OpeningSocket) -> None:
        """Let go of a socket that does not open."""
        self.sockets.decided(opening)
        self._need_no_orders()

    def _need_no_orders(self) -> None:
        if self.layer is not None and not self.sockets.are_any:
            self.groups.unused(NODES, self.loop.time())

    async def reachable(self) -> None:
        """Wait until what concerns the sockets of all nodes arrives here, two seconds at most."""
        self.heartbeat.start()
        await self._heard()

    async def _heard(self) -> None:
        if self.layer is not None and NODES not in self.groups:
            await self._done(self.groups.add(NODES))

    # ------------------------------------------------------------- subscribers

    async def ready(self, topic: str) -> None:
        """Wait until broadcasts of other processes on `topic` arrive here, two seconds at most.

        With a layer that is down it returns at once: what is local works.
        """
        if self.layer is None or topic in self.groups:
            return
        self.start()
        if topic not in self.registry:
            self.groups.unused(topic, self.loop.time())
        await self._done(self.groups.add(topic))

    @property
    def is_settled(self) -> bool:
        """Whether no topic waits for the layer."""
        return self.groups.last() is None or self.is_failing

    async def settled(self) -> None:
        """Wait for the topics that wait for the layer now, two seconds at most."""
        last = self.groups.last()
        if last is not None:
            await self._done(last)

    async def _done(self, step: asyncio.Future[None]) -> None:
        while not self.is_failing:
            done = self.groups.done
            try:
                async with asyncio.timeout(READY_TIMEOUT):
                    return await asyncio.shield(step)
            except TimeoutError as error:
                if self.groups.done == done:  # it is not only that the line is long
                    return self.report(error)

    def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        self.registry.add(topic, subscriber)
        if self.layer is not None:
            self.groups.used(topic)

    def unsubscribe(self, topic: str, subscriber: Subscriber) -> None:
        self.registry.discard(topic, subscriber)
        if topic not in self.registry:
            if self.layer is not None:
                self.groups.unused(topic, self.loop.time())
            for unused in self.on_unused:
                unused(topic)

    # -------------------------------------------------------------- broadcasts

    async def broadcast(
        self, broadcast: Broadcast, history: Any, exclude: Sender | None = None
    ) -> None:
        """Deliver here at once and queue for the layer; a layer that fails is no error here.

        What `history` keeps is kept first. Raises EncodeError when no client here can be sent it.
        """
        # no other process has the sender's channel: nobody there is left out
        published = await self.publish(broadcast, history, exclude)
        if published is not None and self.publisher.is_full:
            await asyncio.wait({published})
        await self.take_turns()

    async def publish(
        self,
        broadcast: Broadcast,
        history: Any,
        exclude: Sender | None = None,
    ) -> asyncio.Future[None] | None:
        """Deliver here and hand to the publisher; returns what is done when the layer took it.

        Raises EncodeError for what is larger than MAX_BROADCAST_SIZE, and as ``broadcast``.
        """
        topic, event = broadcast.topic, broadcast.event
        limit, whole = options().max_broadcast_size, layer_message.size_of(broadcast)
        if whole > limit:
            raise EncodeError(
                f"the broadcast {event!r:.100} has {whole} bytes, MAX_BROADCAST_SIZE is {limit}"
            )
        if broadcast_sent.receivers:
            size = len(memoryview(broadcast.payload))
            broadcast_sent.emit(None, topic=topic, event=event, size=size)
        if history is not None and history.keeps(broadcast):
            if (
                exclude is not None
            ):  # it may have another channel when this is delivered
                broadcast = msgspec.structs.replace(broadcast, sender=exclude.id)
            return await self.ordered.broadcast(history, broadcast)
        try:
            self.deliver_now(broadcast, exclude, strict=True)
        except EncodeError:
            if is_carried(broadcast):  # by clients of other processes, which get it
                self.send_on(broadcast)
            raise
        return self.send_on(broadcast)

    def send_on(self, broadcast: Broadcast) -> asyncio.Future[None] | None:
        """To the other processes; without a layer of processes to the other loops of this one."""
        if not self.is_alone:
            return self.publisher.publish(broadcast)
        for other in self.others():
            deliver = functools.partial(other.deliver, broadcast, strict=False)
            other.loop.call_soon_threadsafe(deliver, context=contextvars.Context())
        return None

    def deliver(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = True,
    ) -> None:
        """To the subscribers of this process: now, or when its turn comes if it has an offset."""
        if broadcast.offset is None:
            self.deliver_now(broadcast, exclude, strict)
        else:
            self.ordered.offer(broadcast)

    def deliver_now(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = False,
    ) -> None:
        delivered = self.registry.deliver(broadcast, exclude, strict)
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

    async def take_turns(self) -> None:
        """Give the loop a turn when deliveries have held it up for a while."""
        if self._delivered >= TURN:
            self._delivered = 0
            if time.monotonic() - self._turn_began > TURN_SECONDS:
                await asyncio.sleep(0)
                self._turn_began = time.monotonic()

    # ----------------------------------------------------------- later replies

    def new_id(self) -> str:
        return f"{self.name}.{next(self._ids)}"

    def shown(self, id: str) -> str:
        """One of ``new_id()`` for operators: under the name that they know this node by."""
        return f"{self.heartbeat.name}.{id.rpartition('.')[2]}"

    def is_shown(self, id: str, shown: str) -> bool:
        """Whether `id` is, or was, shown so: a name may be lost with the node's lease."""
        name, _, number = shown.rpartition(".")
        return name in self.heartbeat.names and number == id.rpartition(".")[2]

    def expect_reply(self, replier: Replier) -> str:
        """Remember `replier`; returns the layer channel on which replies to it are taken."""
        self.replies.expect(replier)
        return self.groups.channel_name or self.name

    # ------------------------------------------------------------ the listener

    async def address(self) -> str | None:
        """The layer channel on which other nodes reach this one, or None: there is none, or the
        layer fails."""
        if self.is_alone:
            return None
        self.start()
        if self.groups.channel_name is None and not self.is_failing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_TIMEOUT):
                    await self._named.wait()
        return self.groups.channel_name

    @contextlib.contextmanager
    def held_by(self, holder: Any) -> Iterator[None]:
        """Keep the listener, and with it the address, while this lasts."""
        self.hold(holder)
        try:
            yield
        finally:
            self.release(holder)

    def hold(self, holder: Any) -> None:
        self._holders.add(holder)

    def release(self, holder: Any) -> None:
        self._holders.discard(holder)

    @property
    def is_failing(self) -> bool:
        """Whether the layer did not do what it was last asked."""
        return self.outage.is_on

    def start(self) -> None:
        """Listen to the layer, until nobody needs it any more."""
        if self._timer is not None:
            return
        self._timer = self.loop.call_later(
            LINGER / 2, self._tick, context=contextvars.Context()
        )
        if self.layer is not None:
            # In an empty context: it lives longer than the request that started it.
            context = contextvars.Context()
            self._listener = begin(self._listen(), context)

    async def _listen(self) -> None:
        """Take messages for ever; when the layer fails, back off, come back, add every group again.

        ``receive()`` is never cancelled before the end: a layer drops its buffer then.
        """
        delay, failures = 0.1, 0
        while True:
            try:
                channel = await self._channel(failures)
                self._refreshed_at = self.loop.time()
                self.groups.connected(channel)
                self._named.set()
                self.cuts.watch()
                self.ordered.look_again()
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
        """The layer's channel of this node: the one it has, but for one that the layer forgot.

        It is forgotten when it fails though another one works: clients have it in their tokens.
        """
        channel, spare = self.groups.channel_name, self._spare
        if channel is None or (failures and spare is not None):
            self._spare = None
            new: str = spare or await self.layer.new_channel()
            if channel is not None:
                logger.warning(
                    "the channel layer forgot this node, which is %s now", new
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
        """Tell of a loss: broadcasts that came meanwhile are gone, unless the state has kept them."""
        lost = "Redis ended the subscription of this process, what was sent meanwhile is lost"
        self.report(ConnectionError(lost))
        self.report(None)
        self.ordered.look_again()
        self.heartbeat.beat_soon()  # which looks after presences

    def _add_groups_again(self) -> None:
        if self.groups.channel_name is not None:
            self.groups.connected(self.groups.channel_name)

    async def _take(self, message: dict[str, Any]) -> None:
        """One message of the layer; a bad one costs a line in the log and nothing else."""
        try:
            if message.get("type") == layer_message.BROADCAST:
                if message.get("node") != self.name:
                    for broadcast in layer_message.unpack(message):
                        if broadcast.offset is None:
                            self.ordered.look_at(broadcast)
                        self.deliver(broadcast, strict=False)
                        await self.take_turns()
            elif message.get("type") == layer_message.REPLY:
                self.replies.take(message)
            elif message.get("type") == layer_message.RELAY:
                self.relay.take(message)
            else:
                raise layer_message.Unreadable(
                    f"the type {shown(message.get('type'), 100)}"
                )
        except layer_message.Unreadable as error:
            logger.error("a message on the channel layer was ignored: %s", error)
        except Exception:
            logger.exception("a message on the channel layer was ignored")

    def _tick(self) -> None:
        now = self.loop.time()
        self.groups.sweep(now)
        self.traffic.turn()
        self.cuts.watch()
        expiry = getattr(self.layer, "group_expiry", None) or 2 * REFRESH
        if (
            now - self._refreshed_at > min(expiry / 2, REFRESH)
            and self.groups.channel_name
        ):
            self._refreshed_at = now
            self.groups.connected(self.groups.channel_name)
        if self.registry or self.sockets.are_any or self.groups or self._holders:
            self._timer = self.loop.call_later(
                LINGER / 2, self._tick, context=contextvars.Context()
            )
        else:
            self._stop()

    def _stop(self) -> None:
        """The end of the listener and the heartbeat; who needs them starts them again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        listener, self._listener = self._listener, None
        self._named.clear()
        self.groups.close()
        ending = [self.heartbeat.stop()]
        if listener is not None:
            ending.append(end(listener))
        self._ending = asyncio.gather(*ending)

    async def close(self) -> None:
        """Stop, and wait until nothing runs any more."""
        self._stop()
        if self._ending is not None:
            await self._ending


def is_in_memory(layer: Any) -> bool:
    """Whether what goes onto `layer` stays in the process."""
    return layer is None or isinstance(layer, InMemoryChannelLayer)


_nodes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, PubSub]
_nodes = weakref.WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_nodes.clear)


def get_pubsub() -> PubSub:
    """The node of the running event loop."""
    loop = asyncio.get_running_loop()
    node = _nodes.get(loop)
    if node is None:
        # asyncio.run() and async_to_sync() make a loop for each call, and a node for each of these
        for closed in [other for other in _nodes if other.is_closed()]:
            del _nodes[closed]
        node = _nodes[loop] = PubSub()
    return node


def all_nodes() -> list[PubSub]:
    """The nodes of this process, one for each event loop that runs."""
    return [node for loop, node in list(_nodes.items()) if loop.is_running()]


def serving_nodes() -> list[PubSub]:
    """Those that have subscribers or sockets, or are about to."""
    return [n for n in all_nodes() if n.registry or n.sockets.are_any]
