"""Neighbours: what the states of other processes know, if those are in memory and on the local bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import StateError
from ..logs import get_logger
from ..state import State
from .connections import Body
from .part import PARTS, Call, Part
from .rpc import CALL_TIMEOUT, NoAnswer

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.pubsub")

Answer = TypeVar("Answer")

KNOWN = "neighbours.known"


class Neighbours(Part):
    """Tells neighbours what the state of this process knows."""

    @property
    def calls(self) -> Mapping[str, Call]:
        return {KNOWN: self._known}

    async def _known(self, body: Body) -> Body:
        return {"nodes": await _nodes(self.node), "counts": await _counts(self.node)}


PARTS.append(Neighbours)


async def known_nodes(node: Node) -> dict[str, Body]:
    """Return the live nodes: name -> about. May raise StateError."""
    found: dict[str, Body] = {}
    for known in await _ask(node):
        found.update(known["nodes"])
    return {**found, **await _nodes(node)}


async def known_counts(node: Node) -> dict[str, dict[str, int]]:
    """Return how many subscribers each topic has: topic -> node -> count. May raise StateError."""
    found: dict[str, dict[str, int]] = {}
    for known in (*await _ask(node), {"counts": await _counts(node)}):
        for topic, counts in known["counts"].items():
            found.setdefault(topic, {}).update(counts)
    return found


async def _nodes(node: Node) -> dict[str, Body]:
    """Return the live nodes that the servers of the state know. Raises StateError if none answers."""
    found: dict[str, Body] = {}
    for nodes in await _of_all(node, lambda state: state.nodes()):
        found.update({about.get("node", name): about for name, about in nodes.items()})
    return found


async def _counts(node: Node) -> dict[str, dict[str, int]]:
    """Return the counts of the topics on all servers that answer. Raises StateError if none does."""
    if len(node.heartbeats) == 1:
        return await node.heartbeat.state.counts()

    async def ask(state: State) -> dict[str, dict[str, int]]:
        counts, nodes = await state.counts(), await state.nodes()
        names = {name: about.get("node", name) for name, about in nodes.items()}
        return {
            topic: {names.get(name, name): n for name, n in of.items()}
            for topic, of in counts.items()
        }

    found: dict[str, dict[str, int]] = {}
    for counts in await _of_all(node, ask):
        found.update(counts)
    return found


async def _of_all(
    node: Node, ask: Callable[[State], Awaitable[Answer]]
) -> list[Answer]:
    """Return the answers of the servers of the state; leave out those that fail, unless all do."""
    working = [heartbeat for heartbeat in node.heartbeats if not heartbeat.is_down]
    asked = (ask(heartbeat.state) for heartbeat in working or node.heartbeats)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    found: list[Answer] = []
    errors: list[BaseException] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            errors.append(answer)
        else:
            found.append(answer)
    for error in errors:
        if not found or not isinstance(error, StateError):
            raise error
        logger.warning("a server of the state is left out: %s", error)
    return found


async def _ask(node: Node) -> list[dict[str, Any]]:
    """Ask all neighbours; leave out and log those that do not answer."""
    asked = await node.link.neighbours()
    answers = await asyncio.gather(*(_ask_one(node, address) for address in asked))
    return [answer for answer in answers if answer is not None]


async def _ask_one(node: Node, address: str) -> Body | None:
    try:
        return await node.rpc.call(
            address, KNOWN, {}, ack_timeout=CALL_TIMEOUT, timeout=CALL_TIMEOUT
        )
    except NoAnswer as error:
        logger.warning("a process on the local bus did not answer: %s", error)
        return None
