"""A link over a channel layer in memory: such a layer connects nothing beyond one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from ..bus.bus import Bus, is_on, is_tested
from ..bus.folder import Neighbour, is_address
from ..concurrency.tasks import begin, end, within
from ..logs import get_logger
from ..wire.messages import Broadcast
from . import message as layer_message
from .groups import Key
from .link import READY_TIMEOUT, LayerLink, Message
from .serving import mounted
from .turns import Turns

logger = get_logger("phx_protocol.pubsub")

ALONE = "another process of this project serves clients as well, and the channel layer is in memory: "
APART = "clients of one do not hear those of the other. "
HALF = "presences and histories are not shared. "
REDIS = "Configure phx_protocol.layers.RedisLayer in CHANNEL_LAYERS."


class Peer(Protocol):
    """Another node of this process."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def take_now(self, message: Message) -> None: ...


class LocalLink(LayerLink):
    """The link of a node whose channel layer is in memory.

    It listens to the layer. It sends to the nodes of the other event loops of this process, and over
    the local bus, if that is on, to the other processes of the project on this machine.
    """

    def __init__(
        self,
        *args: Any,
        others: Callable[[], Iterable[Peer]],
        take_now: Callable[..., None],
        take_each: Callable[..., Iterator[None]],
    ) -> None:
        super().__init__(*args)
        self._others = others
        # what neighbours broadcast they do not keep in histories of this process
        now = functools.partial(take_now, keeps=False)
        each = functools.partial(take_each, keeps=False)
        self._near = Neighbourhood(now, each)

    # --------------------------------------------------------------- the listener

    def start(self) -> None:
        super().start()
        self._near.start()

    def stop(self) -> Awaitable[None]:
        return _both(super().stop(), self._near.stop())

    def tick(self, now: float) -> None:
        super().tick(now)
        self._near.tick()

    async def address(self) -> str | None:
        """Return the path of the socket on which other processes reach this one; None if there is none."""
        return await self._near.address()

    def is_ready(self, key: Key) -> bool:
        return self._near.is_open and super().is_ready(key)

    async def ready(self, key: Key) -> None:
        if not self._near.is_open:
            await self._near.address()
        # such a layer has nothing to wait for, and a step needs a future and a task
        if not super().is_ready(key) and not await self.groups.join(key):
            await super().ready(key)

    # -------------------------------------------------------------------- sending

    @property
    def is_full(self) -> bool:
        return self._near.is_full

    async def neighbours(self) -> list[str]:
        return await self._near.addresses()

    def publish(self, broadcast: Broadcast) -> asyncio.Future[None] | None:
        others = list(self._others())
        if not others and not self._near.may_be_heard:
            return None
        items = [layer_message.pack_item(broadcast)]
        here = layer_message.pack(items, self.name)
        self._hand(others, here)
        if not self._near.may_be_heard:
            return None
        # elsewhere the offset says nothing: each process has histories of its own
        items = [{**items[0], "offset": None}]
        return self._near.send(layer_message.pack(items, self.name), None)

    async def publish_together(self, broadcasts: Sequence[Broadcast]) -> None:
        waiting = [self.publish(broadcast) for broadcast in broadcasts]
        for done in filter(None, waiting):
            await done

    async def cast(self, key: Key, message: Message) -> None:
        self._hand(self._others(), message)
        await self._near.sent(message, None)

    async def send(self, address: str, message: Message) -> None:
        # a node that is not on the bus has no address: all get it, and the right one takes it
        self._hand(self._others(), message)
        await self._near.sent(message, address if is_address(address) else None)

    def _hand(self, others: Iterable[Peer], message: Message) -> None:
        for other in others:
            other.loop.call_soon_threadsafe(
                other.take_now, message, context=contextvars.Context()
            )


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    await first
    await second


class Neighbourhood:
    """The local bus of one link, from each start to the next stop."""

    def __init__(
        self,
        take_now: Callable[[Message], None],
        take_each: Callable[[Message], Iterator[None]],
    ) -> None:
        self._takes = take_now, take_each
        #: True if messages travel over it; else it only counts the processes that serve clients
        self.carries = is_on()
        self._bus = self._make()
        self._opening: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._watch = Watch()

    def _make(self) -> Bus | None:
        if is_tested():
            return None
        turns = Turns(*self._takes)
        return Bus(turns.take, carries=self.carries, is_behind=lambda: turns.is_behind)

    def start(self) -> None:
        if self._bus is not None and (mounted or self.carries):
            self._opening = begin(self._bus.open(serves=bool(mounted)))

    def stop(self) -> Awaitable[None]:
        opening, self._opening = self._opening, None
        # another one: it may be started again before this one is closed
        bus, self._bus = self._bus, self._make()
        self._watch = Watch()
        return _stopped(opening, self._ticking, bus)

    def tick(self) -> None:
        """Look for the other processes, as some may be gone, or be there without being connected."""
        if self._bus is None or self._opening is None or not self._opening.done():
            return
        if self._ticking is None or self._ticking.done():
            self._ticking = begin(self._look(self._bus))

    async def _look(self, bus: Bus) -> None:
        try:
            self._watch.saw(await bus.tick())
        except OSError as error:
            # it was logged when the place was taken first
            logger.debug("other processes do not reach this one: %s", error)

    @property
    def is_open(self) -> bool:
        """True if others reach this node, or never will."""
        if self._bus is None or not self.carries:
            return True
        return self._opening is not None and self._opening.done()

    async def address(self) -> str | None:
        """Wait until it is open, READY_TIMEOUT at most; return the path of the node's socket."""
        if self._bus is None or self._opening is None:
            return None
        await within(READY_TIMEOUT, self._opening)
        return self._bus.address

    @property
    def may_be_heard(self) -> bool:
        """False if no message reaches another process."""
        return self._bus is not None and self.carries and self._bus.may_be_heard

    @property
    def is_full(self) -> bool:
        """True if so much waits for another process that publishers must wait."""
        return self._bus is not None and self._bus.is_full

    async def addresses(self) -> list[str]:
        """Return the addresses of the other processes that serve clients."""
        if self._bus is None or not self.carries:
            return []
        return await self._bus.neighbours()

    def send(
        self, message: Message, address: str | None
    ) -> asyncio.Future[None] | None:
        """Send as ``Bus.send`` does, if messages travel over it."""
        if self._bus is None or not self.carries:
            return None
        return self._bus.send(message, address)

    async def sent(self, message: Message, address: str | None) -> None:
        """Send, and wait until the machine has it."""
        waiting = self.send(message, address)
        if waiting is not None:
            await waiting


async def _stopped(
    opening: asyncio.Task[None] | None,
    ticking: asyncio.Task[None] | None,
    bus: Bus | None,
) -> None:
    await end(opening)
    await end(ticking)
    if bus is not None:
        await bus.close()


class Watch:
    """Warns once when other processes serve clients as well."""

    _warned = False

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def saw(self, neighbours: Iterable[Neighbour]) -> None:
        """Note the `neighbours` that are there now."""
        now = {one.address for one in neighbours if one.serves}
        # twice: the process before this one may just be about to end
        if mounted and now & self._seen and not Watch._warned:
            Watch._warned = True
            logger.warning("%s%s%s", ALONE, HALF if is_on() else APART, REDIS)
        self._seen = now
