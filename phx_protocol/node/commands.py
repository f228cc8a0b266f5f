"""Commands: actions on the sockets of all nodes, such as disconnecting a user."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin
from ..exceptions import BroadcastError, StateError
from ..logs import get_logger
from ..logs.printable import describe
from .neighbours import known_nodes
from .rpc import CALL_TIMEOUT, NoAnswer, call_node

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.pubsub")

#: the name of the cast and of the call that carry a command
COMMAND = "order"
#: how many commands a node remembers, to recognize one that arrives a second time
REMEMBERED = 1000

Body = dict[str, Any]


class Commands:
    """The commands of one node: those that it sends and those that it receives.

    A command is sent twice: as a cast to the group of all nodes with sockets, which execute it
    without delay; and as a call to each of these nodes that the state knows, to learn when it is
    done there. Each node executes it once.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # id -> future that is done when the command is
        self._received: dict[str, asyncio.Future[None]] = {}
        node.rpc.on_cast(COMMAND, self._on_cast)
        node.rpc.on_call(COMMAND, self._on_call)

    def take(self, command: Body) -> asyncio.Future[None]:
        """Execute a command, unless it was executed before. The future is done when it is."""
        id = command["id"]
        if id not in self._received:
            # the synchronous part runs here, before any later broadcast can be delivered
            rest = self._execute(command["name"], command["body"])
            done = self._received[id] = begin(_finish(command["name"], rest))
            done.add_done_callback(_seen)
            if len(self._received) > REMEMBERED:
                del self._received[next(iter(self._received))]
        return self._received[id]

    def _execute(self, name: str, body: Body) -> Awaitable[Any] | None:
        try:
            return self._node.connections.execute(name, body)
        # not raised here: the other nodes must get the command too
        except Exception as error:
            return _failed(error)

    def _on_cast(self, command: Body) -> None:
        self.take(command)

    async def _on_call(self, command: Body) -> Body:
        await asyncio.shield(self.take(command))
        return {}

    async def send(self, name: str, body: Body) -> None:
        """Send a command to every node; return when all have executed it.

        Raises BroadcastError if the layer did not accept it; also after CALL_TIMEOUT, with the names
        of the nodes that have not answered that it is done.
        """
        node = self._node
        command = {"id": node.new_id(), "name": name, "body": body}
        self.take(command)
        doubt = await self._cast(command)
        known = {n.heartbeat.name: Body() for n in (node, *node.others())}
        if not node.sees_one_process and doubt is None:
            try:
                known = {**await self._serving(), **known}
            except StateError as error:
                doubt = f"the other nodes are not known: {error}"
        calls = (self._call(n, about, command) for n, about in known.items())
        silent = [name for name in await asyncio.gather(*calls) if name is not None]
        if silent:
            doubt = f"not done (yet) by {', '.join(silent)}"
        if doubt is not None:
            raise BroadcastError(doubt)

    async def _serving(self) -> dict[str, Body]:
        """Return the nodes that may have sockets: not workers and management commands."""
        nodes = await known_nodes(self._node)
        return {
            name: about for name, about in nodes.items() if about.get("serves", True)
        }

    async def _cast(self, command: Body) -> str | None:
        """Cast to the nodes that have sockets. Return the text of the error, or None."""
        try:
            await self._node.rpc.cast_all(COMMAND, command)
            return None
        except Exception as error:
            return f"the channel layer did not take it: {describe(error)}"

    async def _call(self, name: str, about: Body, command: Body) -> str | None:
        """Wait until the node `name` has executed it. If it does not answer, return its name."""
        address = about.get("address")
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                await call_node(
                    self._node, name, address, COMMAND, command, CALL_TIMEOUT
                )
            return None
        except (NoAnswer, TimeoutError):
            where = f" ({about['host']}, pid {about['pid']})" if about else ""
            return f"{name}{where}"


async def _failed(error: Exception) -> None:
    raise error


def _seen(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()  # it has been logged already: no warning if nobody awaits `done`


async def _finish(name: str, rest: Awaitable[Any] | None) -> None:
    try:
        if rest is not None:
            await rest
    except Exception:
        logger.exception("the command %r failed here", name)
        raise
