"""Neighbours: what the states of other processes know, if those are in memory and on the local bus."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..logs import get_logger
from .connections import Body
from .part import PARTS, Call, Part
from .rpc import CALL_TIMEOUT, NoAnswer

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.pubsub")

KNOWN = "neighbours.known"


class Neighbours(Part):
    """Tells neighbours what the state of this process knows."""

    @property
    def calls(self) -> Mapping[str, Call]:
        return {KNOWN: self._known}

    async def _known(self, body: Body) -> Body:
        state = self.node.heartbeat.state
        return {"nodes": await state.nodes(), "counts": await state.counts()}


PARTS.append(Neighbours)


async def known_nodes(node: Node) -> dict[str, Body]:
    """Return the live nodes: name -> about. May raise StateError."""
    found: dict[str, Body] = {}
    for known in await _ask(node):
        found.update(known["nodes"])
    return {**found, **await node.heartbeat.state.nodes()}


async def known_counts(node: Node) -> dict[str, dict[str, int]]:
    """Return how many subscribers each topic has: topic -> node -> count. May raise StateError."""
    found: dict[str, dict[str, int]] = {}
    for known in (*await _ask(node), {"counts": await node.heartbeat.state.counts()}):
        for topic, counts in known["counts"].items():
            found.setdefault(topic, {}).update(counts)
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
