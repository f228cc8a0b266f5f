"""The answers of a node to the calls of introspection."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..node.part import PARTS, Call, Part
from ..presence.tracker import Trackers
from ..wire import json

if TYPE_CHECKING:
    from ..node.node import Node

Body = dict[str, Any]
Item = TypeVar("Item")

#: most bytes of one answer; several answers may be sent to a node at the same time
ANSWER = 1024 * 1024
#: bytes that an item needs besides its own JSON, such as its rate or a comma
OVERHEAD = 32


class NodeReport(Part):
    """The answers of one node; each is plain JSON."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        #: limits how many nodes this one calls at the same time, and so how many answers come
        self.calling = asyncio.Semaphore(8)

    @property
    def calls(self) -> Mapping[str, Call]:
        return {
            "list_sockets": self._sockets,
            "describe_topics": self._topics,
            "busiest_topics": self._busiest,
            "latencies": self._latencies,
        }

    async def _sockets(self, body: Body) -> Body:
        user, topic, limit = body["user"], body["topic"], body["limit"]
        connections = self.node.connections
        chosen = connections.of_user(user) if user is not None else connections
        found = (s for s in chosen if topic is None or s.has_joined(topic))
        sockets = [s.describe() for s in itertools.islice(found, limit)]
        for socket in sockets:
            socket["topics"], socket["more_topics"] = _within_limit(
                socket["topics"], ANSWER // (2 * len(sockets))
            )
        kept = list(within(sockets, ANSWER))
        return {"sockets": kept, "left_out": len(sockets) - len(kept)}

    async def _topics(self, body: Body) -> Body:
        rates = self.node.pubsub.traffic.rates()
        return {
            topic: {
                "channels": self._channels(topic),
                "presences": self._presences(topic),
                "rate": rates.get(topic, 0.0),
            }
            for topic in body["topics"]
            if topic in self.node.pubsub.registry
        }

    def _channels(self, topic: str) -> list[str]:
        """Return the classes of the joined channels: channels with one fastlane are of one class."""
        joined: list[Any] = self.node.pubsub.registry.one_of_each_lane(topic)
        classes = (server.route.channel_class for server in joined)
        return list({f"{c.__module__}.{c.__qualname__}": None for c in classes})

    def _presences(self, topic: str) -> int:
        return self.node.part(Trackers).count(topic)

    async def _busiest(self, body: Body) -> Body:
        rates = self.node.pubsub.traffic.rates()
        busiest = sorted(rates, key=rates.__getitem__, reverse=True)
        return {
            topic: rates[topic] for topic in within(busiest[: body["limit"]], ANSWER)
        }

    async def _latencies(self, body: Body) -> Body:
        return {"latencies": self.node.pubsub.latencies.of(body["topic"])}


def within(items: Iterable[Item], limit: int) -> Iterator[Item]:
    """Yield the first of `items`, as many as fit into `limit` bytes of JSON together."""
    for item in items:
        limit -= len(json.encode(item)) + OVERHEAD
        if limit < 0:
            return
        yield item


def _within_limit(topics: list[str], limit: int) -> tuple[list[str], int]:
    """Return as many of `topics` as fit into `limit` bytes, and how many are left out."""
    kept = list(within(topics, limit))
    return kept, len(topics) - len(kept)


PARTS.append(NodeReport)
