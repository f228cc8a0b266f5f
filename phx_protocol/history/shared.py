"""SharedReading: what the joins of one topic read of its history; joins at the same time share it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..exceptions import StateError, StateTimeout
from ..state import Kept, Position

if TYPE_CHECKING:
    from .policy import History
    from .stream import Stream


class SharedReading:
    """The broadcasts that were read while a join of the topic waits for some."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.users = 0  # joins that are waiting for broadcasts
        self._kept: dict[int, Kept] = {}  # n -> broadcast
        self._gone = (
            0  # the number of the latest one that is known not to be kept any more
        )
        # what a rewind was asked for at last, and where it begins
        self._asked: tuple[Position, History] | None = None
        self._first: int | None = None
        self._lock = asyncio.Lock()
        self._failures = 0  # readings that failed

    def enter(self) -> None:
        """Note that a join needs broadcasts."""
        self.users += 1

    def leave(self) -> None:
        """Note that a join is done. After the last one, forget the shared broadcasts."""
        self.users -= 1
        if not self.users:
            self.clear()

    def clear(self) -> None:
        self._kept.clear()
        self._gone, self._asked, self._first = 0, None, None

    async def first(self, position: Position, history: History) -> int | None:
        """Return the number before the first broadcast of a rewind up to `position`.

        None if the topic began again. Raises StateError.
        """
        asked = position, history

        async def read() -> None:
            self._first = await self._stream.read_first(*asked)
            self._asked = asked

        await self._once(lambda: self._asked == asked, read)
        return self._first if self._asked == asked else None

    async def page(
        self, epoch: str, n: int, limit: int | None = None, *, partial: bool = False
    ) -> list[Kept]:
        """Return some of the broadcasts after the `n`-th, without a gap; nothing if there is a gap.

        With `partial` the first of them may be a later one, if those before it are gone. Joins that
        need them at the same time share the reading, and its error. Raises StateError.
        """

        def begin() -> int:
            return max(n, self._gone) if partial else n

        await self._once(
            lambda: begin() + 1 in self._kept,
            lambda: self._read(epoch, begin(), limit, partial),
        )
        page: list[Kept] = []
        size, n = 0, begin()
        while (kept := self._kept.get(n + 1)) is not None:
            page.append(kept)
            n, size = kept.n, size + kept.bytes
        return page if limit is None or size <= limit else []

    async def _once(
        self, is_known: Callable[[], bool], read: Callable[[], Awaitable[None]]
    ) -> None:
        """Read what is not known, unless another join has tried it meanwhile and failed."""
        failures = self._failures
        async with self._lock:
            if is_known():
                return
            if failures != self._failures:
                raise StateTimeout("it did not answer to another join either")
            try:
                await read()
            except StateError:
                self._failures += 1
                raise

    async def _read(self, epoch: str, n: int, limit: int | None, partial: bool) -> None:
        found = await self._stream.read_shared(epoch, n, limit=limit, partial=partial)
        if not found:
            return
        if sum(k.bytes for k in self._kept.values()) > self._stream.history.max_bytes:
            self._kept.clear()  # there were joins all the time, so it was never cleared
        self._gone = max(self._gone, found[0].n - 1) if partial else self._gone
        self._kept.update((one.n, one) for one in found)
