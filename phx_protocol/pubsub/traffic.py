"""Traffic: how many messages each topic of this process had in the last seconds."""

from __future__ import annotations

import time

#: seconds of one window: rates are of the last one to two windows
WINDOW = 2.5


class Traffic:
    """Counts messages in two windows of time; when the newer one is full, the older is dropped."""

    def __init__(self) -> None:
        self._began = self._before_began = time.monotonic()
        self._counts: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def add(self, topic: str, messages: int = 1) -> None:
        if topic in self._counts:
            self._counts[topic] += messages
        elif messages:
            self.turn()  # in a process that only broadcasts nothing else calls it
            self._counts[topic] = messages

    def rates(self) -> dict[str, float]:
        """Return topic -> messages per second, for topics that had messages."""
        self.turn()
        seconds = max(time.monotonic() - self._before_began, WINDOW)
        topics = self._counts.keys() | self._before.keys()
        return {
            t: (self._counts.get(t, 0) + self._before.get(t, 0)) / seconds
            for t in topics
        }

    def turn(self) -> None:
        """Drop the older window if the newer one is full. Called regularly."""
        now = time.monotonic()
        if now - self._began >= WINDOW:
            self._before, self._before_began = self._counts, self._began
            self._counts, self._began = {}, now
