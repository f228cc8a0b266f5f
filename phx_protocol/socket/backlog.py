"""Backlog: what waits for the channels of one connection, and what its client has to pay for."""

from __future__ import annotations

from .budget import Budget

#: bytes of payloads of one client that are decoded at once: as objects they take up to thirty
#: times as much
DECODED_BYTES = 1024 * 1024


class Backlog:
    """The account of one client."""

    __slots__ = ("frames", "frame_bytes", "held_bytes", "_budget")

    def __init__(self) -> None:
        self.frames = 0  # that the channels have not taken yet
        self.frame_bytes = 0  # of these, and of those being handled
        self.held_bytes = 0  # of broadcasts that the channels have not taken yet
        self._budget: Budget | None = None

    @property
    def budget(self) -> Budget:
        """The limit of what the client sent that is decoded at once; made for the first large frame."""
        if self._budget is None:
            self._budget = Budget(DECODED_BYTES)
        return self._budget

    def owed(self) -> float:
        """Return the seconds for which nothing of the client is to be read: its large frames took
        the loop."""
        return 0.0 if self._budget is None else self._budget.owed()
