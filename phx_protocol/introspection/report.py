"""What a node tells of itself when another one asks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ..node.node import extensions
from ..presence.tracker import TRACKERS, Trackers
from ..wire import json

if TYPE_CHECKING:
    from ..node.node import PubSub

Body = dict[str, Any]
Item = TypeVar("Item")

#: bytes of one answer, of which several may be on their way to a node
ANSWER = 1024 * 1024
#: bytes of what comes beside an item: its rate, its place in a list
OVERHEAD = 32


class Report:
    """The answers of one node; each is plain JSON."""

    def __init__(self, node: PubSub) -> None:
        self._node = node
        #: nodes that this one asks at the same time: so many answers may be on their way
        self.asking = asyncio.Semaphore(8)
        node.relay.serve("list_sockets", self._sockets)
        node.relay.serve("describe_topics", self._topics)
        node.relay.serve("busiest_topics", self._busiest)

    async def _sockets(self, body: Body) -> Body:
        user, topic, limit = body["user"], body["topic"], body["limit"]
        sockets = self._node.sockets
        chosen = sockets.of_user(user) if user is not None else sockets
        found = (s for s in chosen if topic is None or s.has_joined(topic))
        told = [s.describe() for s in itertools.islice(found, limit)]
        for socket in told:
            socket["topics"], socket["more_topics"] = _cut(
                socket["topics"], ANSWER // (2 * len(told))
            )
        kept = list(within(told, ANSWER))
        return {"sockets": kept, "left_out": len(told) - len(kept)}

    async def _topics(self, body: Body) -> Body:
        rates = self._node.traffic.rates()
        return {
            topic: {
                "channels": self._channels(topic),
                "presences": self._presences(topic),
                "rate": rates.get(topic, 0.0),
            }
            for topic in body["topics"]
            if topic in self._node.registry
        }

    def _channels(self, topic: str) -> list[str]:
        """The classes of the channels that have joined: one of each fastlane tells."""
        joined: list[Any] = self._node.registry.one_of_each_lane(topic)
        classes = (server.route.channel_class for server in joined)
        return list({f"{c.__module__}.{c.__qualname__}": None for c in classes})

    def _presences(self, topic: str) -> int:
        trackers: Trackers = self._node.extension(TRACKERS)
        return trackers.count(topic)

    async def _busiest(self, body: Body) -> Body:
        rates = self._node.traffic.rates()
        busiest = sorted(rates, key=rates.__getitem__, reverse=True)
        return {
            topic: rates[topic] for topic in within(busiest[: body["limit"]], ANSWER)
        }


def within(items: Iterable[Item], limit: int) -> Iterator[Item]:
    """The first of `items` that have `limit` bytes of JSON together."""
    for item in items:
        limit -= len(json.encode(item)) + OVERHEAD
        if limit < 0:
            return
        yield item


def _cut(topics: list[str], limit: int) -> tuple[list[str], int]:
    """So many of `topics` as `limit` bytes take, and how many more there are."""
    kept = list(within(topics, limit))
    return kept, len(topics) - len(kept)


extensions["report"] = Report
