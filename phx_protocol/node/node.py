"""Node: one event loop of one process, and its connection to the other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import os
import secrets
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

from channels.layers import get_channel_layer

from ..auth.credentials import Claim
from ..bus.bus import is_on
from ..conf import options
from ..exceptions import StateMoved
from ..logs import get_logger
from ..logs.printable import shown
from ..pubsub import message as layer_message
from ..pubsub.direct import DirectLink
from ..pubsub.groups import LINGER
from ..pubsub.link import LayerLink, is_in_memory
from ..pubsub.local import LocalLink
from ..pubsub.message import NODES
from ..pubsub.pubsub import PubSub
from ..state.factory import get_servers
from ..state.rings import Rings
from .commands import Commands
from .connections import Connections, OpeningSocket, OpenSocket
from .drain import Drainer
from .heartbeat import Heartbeat
from .part import PARTS, Part, StatePart
from .placement import Placement
from .rpc import NodeRpc
from .shutdown import install_signal_handlers

logger = get_logger("phx_protocol.pubsub")

P = TypeVar("P", bound=Part)
Answer = TypeVar("Answer")


class Node:
    """The subscribers and connections of one event loop, and its links to the other nodes.

    Its listener and its heartbeat start with the first subscriber or connection, and stop when
    there have been none for a while.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.name = secrets.token_hex(8)
        layer = get_channel_layer(options().channel_layer)
        # made first: its pacer limits how fast the layer link sends
        self.rpc = NodeRpc(self)
        # Broadcasts are not sent to an in-memory layer: local delivery reaches everybody.
        self.sees_one_process = is_in_memory(layer) and not is_on()
        self.link = self._make_link(layer)
        self.pubsub = PubSub(self.name, self.link)
        self.pubsub.on_unused = self._unused
        self.connections = Connections(self.is_shown)
        self.commands = Commands(self)
        servers = get_servers()
        is_one_of_several = len(servers.states) > 1
        #: one for each server of the state
        self.heartbeats = [
            Heartbeat(self, state, is_one_of_several) for state in servers.states
        ]
        self.heartbeat = self.heartbeats[0]
        self.placement = Placement(servers, self.heartbeats, self._switched)
        self.drainer = Drainer(self)
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[Any] | None = None
        # objects that keep the listener running besides subscribers: a session, a request
        self._kept_alive_by: set[Any] = set()
        self._parts: dict[tuple[type[Part], Heartbeat], Part] = {}
        for part in PARTS:
            for heartbeat in self.heartbeats:
                self._make(part, heartbeat)

    def _make_link(self, layer: Any) -> LayerLink:
        """Return the link to the other nodes for a layer of this kind."""
        common = (
            layer,
            self.name,
            self.take,
            self._may_have_lost,
            self.rpc.pacer,
        )
        now, each = self.take_now, self.take_each
        if is_in_memory(layer):
            others = self.others
            return LocalLink(*common, take_now=now, take_each=each, others=others)
        if hasattr(layer, "deliver_to"):
            return DirectLink(*common, take_now=now, take_each=each)
        return LayerLink(*common)

    def part(self, cls: type[P], of: str = "") -> P:
        """Return the part of this node that is a `cls`; make it if there is none.

        Of a StatePart there is one for each server of the state: that of the topic or user `of`.
        """
        heartbeat = self.heartbeat_of(of)
        found = self._parts.get(_place(cls, heartbeat))
        return found if isinstance(found, cls) else self._make(cls, heartbeat)

    def _make(self, cls: type[P], heartbeat: Heartbeat) -> P:
        place = _place(cls, heartbeat)
        known = self._parts.get(place)
        if isinstance(known, cls):
            return known
        made: Any
        if issubclass(cls, StatePart):
            made = cls(self, heartbeat)
            heartbeat.parts.append(made)
        else:
            made = cls(self)
        self._parts[place] = made
        for name, call in made.calls.items():
            self.rpc.on_call(name, call)
        for name, take in made.casts.items():
            self.rpc.on_cast(name, take)
        for name, command in made.commands.items():
            self.connections.on_command(name, command)
        return cast("P", made)

    @property
    def parts(self) -> list[Part]:
        return list(self._parts.values())

    def heartbeat_of(self, name: str) -> Heartbeat:
        """Return the heartbeat on the server of the state that has `name`: a topic, a user, an address."""
        return self.placement.heartbeat_of(name)

    def _switched(self, before: Rings) -> None:
        """Go by the servers of the state that are in use now: what lay on another one is written again."""
        for heartbeat in self.heartbeats:
            heartbeat.moved(before)
        self.beat_soon()

    async def asked(
        self, name: str, ask: Callable[[Heartbeat], Awaitable[Answer]]
    ) -> Answer:
        """Return what `ask` returns for the server of the state that has `name`.

        If it turns out that another one has it by now, that is asked.
        """
        try:
            return await ask(self.heartbeat_of(name))
        except StateMoved:
            await self.placement.settled()
            return await ask(self.heartbeat_of(name))

    def local(self) -> dict[str, Node]:
        """Return the nodes of this process by their names, even those without clients."""
        return {node.heartbeat.name: node for node in (self, *all_nodes())}

    def others(self) -> list[Node]:
        """Return the nodes of the other event loops of this process that have clients."""
        return [node for node in serving_nodes() if node is not self]

    # ---------------------------------------------------------------- connections

    async def expect_connection(self, opening: OpeningSocket) -> None:
        """Pass commands to a socket that may open, until it opens or is discarded."""
        self.connections.expect(opening)
        if not self.link.is_ready(NODES):
            self.start()
            self.link.used(NODES)
            await self.link.ready(NODES)
            for part in self.parts:
                part.missed_commands()

    def add_connection(self, socket: OpenSocket) -> None:
        if not self.connections:
            install_signal_handlers(self)
        self.connections.add(socket)
        for part in self._parts.values():
            part.opened(socket)
        for heartbeat in self.heartbeats:
            heartbeat.has_sockets()
        self.link.used(NODES)

    def discard_connection(self, socket: OpenSocket) -> None:
        self.connections.discard(socket)
        self._closed(socket.key)

    async def check(self, claim: Claim) -> None:
        """Raise BadSignature if a part says that a client with this token may not be here.

        Raise ConnectionRefused if that cannot be found out now.
        """
        for part in self.parts:
            if type(part).check is not Part.check:
                await part.check(claim)

    def discard_opening(self, opening: OpeningSocket) -> None:
        """Forget a socket that does not open."""
        self.connections.decided(opening)
        self._closed(opening.key)

    def _closed(self, connection: str) -> None:
        for part in self._parts.values():
            part.closed(connection)
        if not self.connections.are_any:
            self.link.unused(NODES)

    async def reachable(self) -> None:
        """Wait until commands to all nodes arrive here, two seconds at most."""
        self.start_heartbeats()
        await self.link.ready(NODES)

    async def ready(self, topic: str) -> None:
        """Wait until broadcasts of other processes on `topic` arrive here, two seconds at most.

        If the layer is down, return at once: local broadcasts work.
        """
        if not self.link.is_ready(topic):
            self.start()
            if topic not in self.pubsub.registry:
                self.link.unused(topic)
            await self.link.ready(topic)

    # ---------------------------------------------------------------------- names

    def new_id(self) -> str:
        """Return an id that is unique over all processes."""
        return f"{self.name}.{next(self._ids)}"

    def shown(self, id: str) -> str:
        """Return `id`, made by ``new_id()``, with the name of this node that operators see."""
        return f"{self.heartbeat.name}.{id.rpartition('.')[2]}"

    def is_shown(self, id: str, shown: str) -> bool:
        """Return True if `id` is, or was, shown as `shown`: a node gets a new name if its lease is lost."""
        name, _, number = shown.rpartition(".")
        return name in self.heartbeat.names and number == id.rpartition(".")[2]

    # ------------------------------------------------------------------- messages

    async def address(self) -> str | None:
        """Return the layer channel on which other nodes reach this one; None if there is none, or the
        layer fails."""
        if self.sees_one_process:
            return None
        self.start()
        return await self.link.address()

    async def take(self, message: dict[str, Any]) -> None:
        """Handle one message of another node. A bad message is logged and ignored."""
        try:
            if message.get("type") == layer_message.BROADCAST:
                await self.pubsub.take(message)
            else:
                self._take_other(message)
        except Exception as error:
            _log_ignored(error)

    def take_now(self, message: dict[str, Any], keeps: bool = True) -> None:
        """Handle one message at once: of another event loop, or of a layer that delivers directly.

        `keeps` is False for one of the local bus: its sender has histories of its own.
        """
        try:
            if message.get("type") == layer_message.BROADCAST:
                self.pubsub.take_now(message, keeps)
            else:
                self._take_other(message)
        except Exception as error:
            _log_ignored(error)

    def take_each(self, message: dict[str, Any], keeps: bool = True) -> Iterator[None]:
        """Handle one message, one of its broadcasts in each step; `keeps` as for ``take_now``."""
        try:
            if message.get("type") == layer_message.BROADCAST:
                yield from self.pubsub.take_each(message, keeps)
            else:
                self._take_other(message)
        except Exception as error:
            _log_ignored(error)

    def _take_other(self, message: dict[str, Any]) -> None:
        if message.get("type") == layer_message.REPLY:
            self.pubsub.replies.take(message)
        elif message.get("type") == layer_message.RELAY:
            self.rpc.take(message)
        else:
            raise layer_message.Unreadable(
                f"the type {shown(message.get('type'), 100)}"
            )

    def _may_have_lost(self, with_the_layer: bool) -> None:
        """Look for lost messages; with `with_the_layer` (it kept working) also for presences at once."""
        self.pubsub.sequencer.resync()
        if with_the_layer:
            self.beat_soon()

    # ------------------------------------------------------------------- lifetime

    def start_heartbeats(self) -> None:
        for heartbeat in self.heartbeats:
            heartbeat.start()

    def beat_soon(self) -> None:
        """Beat now, to write what is new about this node to the state."""
        for heartbeat in self.heartbeats:
            heartbeat.beat_soon()

    def _unused(self, topic: str) -> None:
        for part in self.parts:
            part.unused(topic)

    @contextlib.contextmanager
    def kept_alive(self, by: Any) -> Iterator[None]:
        """Keep the listener running, and so the address valid, inside the ``with`` block."""
        self.keep_alive(by)
        try:
            yield
        finally:
            self.let_go(by)

    def keep_alive(self, by: Any) -> None:
        self._kept_alive_by.add(by)

    def welcome_neighbours(self) -> None:
        """Be there for other processes on the local bus from now on, also without clients."""
        self.keep_alive(self.link)
        self.start_heartbeats()

    def let_go(self, by: Any) -> None:
        self._kept_alive_by.discard(by)

    def start(self) -> None:
        """Listen to the layer, as long as it is needed."""
        if self._timer is None:
            self._tick_later()
            self.link.start()

    def _tick_later(self) -> None:
        self._timer = self.loop.call_later(
            LINGER / 2, self._tick, context=contextvars.Context()
        )

    def _tick(self) -> None:
        self.link.tick(self.loop.time())
        self.pubsub.traffic.turn()
        if self._is_needed:
            self._tick_later()
        else:
            self._stop()

    @property
    def _is_needed(self) -> bool:
        return bool(
            self.pubsub.registry
            or self.connections.are_any
            or self.link.groups
            or self._kept_alive_by
        )

    def _stop(self) -> None:
        """Stop the listener and the heartbeat; they start again when they are needed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        beats = (heartbeat.stop() for heartbeat in self.heartbeats)
        self._ending = asyncio.gather(*beats, self.link.stop())

    async def close(self) -> None:
        """Stop the listener and the heartbeat, and wait until they have ended."""
        self._stop()
        if self._ending is not None:
            await self._ending


def _place(cls: type[Part], heartbeat: Heartbeat) -> tuple[type[Part], Heartbeat]:
    """Return where a node has its part of this class."""
    is_one = not issubclass(cls, StatePart)
    return cls, heartbeat.node.heartbeat if is_one else heartbeat


def _log_ignored(error: Exception) -> None:
    if isinstance(error, layer_message.Unreadable):
        logger.error("a message on the channel layer was ignored: %s", error)
    else:
        logger.error("a message on the channel layer was ignored", exc_info=error)


_nodes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Node]
_nodes = weakref.WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_nodes.clear)


def get_node() -> Node:
    """Return the node of the running event loop."""
    loop = asyncio.get_running_loop()
    node = _nodes.get(loop)
    if node is None:
        # asyncio.run() and async_to_sync() make a loop for each call, and each loop gets a node
        for closed in [other for other in _nodes if other.is_closed()]:
            del _nodes[closed]
        node = _nodes[loop] = Node()
    return node


def all_nodes() -> list[Node]:
    """Return the nodes of this process, one for each running event loop."""
    return [node for loop, node in list(_nodes.items()) if loop.is_running()]


def serving_nodes() -> list[Node]:
    """Return the nodes of this process that have subscribers or connections, or are about to."""
    return [n for n in all_nodes() if n.pubsub.registry or n.connections.are_any]
