"""Traffic: how many messages each topic of this process had lately."""

from __future__ import annotations

import time

#: seconds that are looked back on at the least
WINDOW = 2.5


class Traffic:
    """Counts in two windows of time, of which the older one goes when the newer is full."""

    def __init__(self) -> None:
        self._began = self._before_began = time.monotonic()
        self._counts: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def add(self, topic: str, messages: int = 1) -> None:
        if topic in self._counts:
            self._counts[topic] += messages
        elif messages:
            self.turn()  # a process that only broadcasts has nobody else who calls it
            self._counts[topic] = messages

    def rates(self) -> dict[str, float]:
        """topic -> messages in a second, of those that had any."""
        self.turn()
        seconds = max(time.monotonic() - self._before_began, WINDOW)
        topics = self._counts.keys() | self._before.keys()
        return {
            t: (self._counts.get(t, 0) + self._before.get(t, 0)) / seconds
            for t in topics
        }

    def turn(self) -> None:
        """Forget what is too old; called now and then."""
        now = time.monotonic()
        if now - self._began >= WINDOW:
            self._before, self._before_began = self._counts, self._began
            self._counts, self._began = {}, now
