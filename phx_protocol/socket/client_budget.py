"""ClientBudget: the large payloads of one client, beside those of all others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from .budget import CREDIT, EARNED, PAUSE, Budget, loop_time
from .loop_budgets import LARGE, NEW_BYTES, loop_budgets

#: seconds for which a client is new: by then it has earned about what its largest frame takes
NEW = 8.0


class ClientBudget(Budget):
    """The budget of one client that connected at `opened_at`, a time of the event loop.

    It begins without credit. While the client is new, the credit of all new ones counts instead.
    """

    __slots__ = ("_old_at", "_paused_until", "_all")

    def __init__(self, limit: int, opened_at: float) -> None:
        super().__init__(limit)
        self._paid_at = opened_at + CREDIT / EARNED
        self._old_at = opened_at + NEW
        self._paused_until = 0.0
        self._all = loop_budgets()

    def _is_new(self) -> bool:
        return loop_time() < self._old_at

    def _free_at(self) -> float:
        return self._paused_until if self._is_new() else self._next_at

    def charge(self, seconds: float) -> None:
        super().charge(seconds)
        self._all.turns.charge(seconds)
        if self._is_new():
            self._all.new.charge(seconds)
            self._paused_until = loop_time() + PAUSE

    def may_wait(self, size: int) -> bool:
        """Return False if so much of new clients waits for ``turn`` that a frame of `size` bytes may not."""
        if size < LARGE or not self._is_new():
            return True
        waiting = self._all.new_bytes
        return not waiting or waiting + size <= NEW_BYTES

    @contextlib.asynccontextmanager
    async def turn_as_new(self, size: int) -> AsyncIterator[None]:
        """Wait, if the client is new and its frame of `size` bytes large, for the credit of all new ones.

        It waits until it is new no more at the most. This comes before all other waiting, and ends
        when the time of the frame has been charged.
        """
        if size < LARGE or not self._is_new():
            yield
            return
        self._all.new_bytes += size
        try:
            async with self._all.new.taken(1, until=self._old_at):
                yield
        finally:
            self._all.new_bytes -= size
