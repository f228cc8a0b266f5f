"""Backlog: the frames and broadcasts that wait for the channels of one connection."""

from __future__ import annotations

from .budget import loop_time
from .client_budget import ClientBudget

#: bytes of payloads of one client that are decoded at the same time: decoded, they take up to
#: thirty times as much memory
DECODED_BYTES = 1024 * 1024


class Backlog:
    """The account of one client: how much of it waits, and its budget for large frames."""

    __slots__ = ("frames", "frame_bytes", "held_bytes", "_opened_at", "_budget")

    def __init__(self) -> None:
        self.frames = 0  # frames that the channels have not taken yet
        self.frame_bytes = (
            0  # bytes of these frames, and of those that are being handled
        )
        self.held_bytes = 0  # bytes of broadcasts that the channels have not taken yet
        self._opened_at = loop_time()
        self._budget: ClientBudget | None = None

    @property
    def budget(self) -> ClientBudget:
        """The budget for the client's large frames. It is made for the first of them."""
        if self._budget is None:
            self._budget = ClientBudget(DECODED_BYTES, self._opened_at)
        return self._budget

    def owed(self) -> float:
        """Return the seconds for which the client must not be read: its large frames took that much
        of the loop."""
        return 0.0 if self._budget is None else self._budget.owed()
