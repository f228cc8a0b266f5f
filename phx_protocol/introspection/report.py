"""What a node tells of itself when another one asks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..presence.tracker import TRACKERS, Trackers
from ..pubsub.node import extensions

if TYPE_CHECKING:
    from ..pubsub import PubSub

Body = dict[str, Any]


class Report:
    """The answers of one node; each is plain JSON."""

    def __init__(self, node: PubSub) -> None:
        self._node = node
        node.relay.serve("list_sockets", self._sockets)
        node.relay.serve("describe_topics", self._topics)
        node.relay.serve("busiest_topics", self._busiest)

    async def _sockets(self, body: Body) -> Body:
        user, topic, limit = body["user"], body["topic"], body["limit"]
        sockets = self._node.sockets
        chosen = sockets.of_user(user) if user is not None else sockets
        found = (s for s in chosen if topic is None or s.has_joined(topic))
        return {"sockets": [s.describe() for s in itertools.islice(found, limit)]}

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
        return {topic: rates[topic] for topic in busiest[: body["limit"]]}


extensions["report"] = Report
