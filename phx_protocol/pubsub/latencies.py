"""Latencies: how long changes in the database took to reach this process, of the last ones of each topic."""

from __future__ import annotations

from collections import OrderedDict, deque

#: so many are kept of each topic, and of so many topics: those that changed last
EACH = 100
TOPICS = 1000


class Latencies:
    """The latest latencies by topic, in seconds."""

    def __init__(self) -> None:
        self._topics: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, topic: str, latency: float) -> None:
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = deque(maxlen=EACH)
            if len(self._topics) > TOPICS:
                self._topics.popitem(last=False)
        else:
            self._topics.move_to_end(topic)
        known.append(latency)

    def of(self, topic: str) -> list[float]:
        return [*self._topics.get(topic, ())]
