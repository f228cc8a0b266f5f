"""Gate and Inbox: what uvicorn's protocol waits with, in less memory than asyncio's own need."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Gate:
    """A gate to wait at, open at first. An ``asyncio.Event`` would need 0.8 KiB."""

    __slots__ = ("_opening",)

    def __init__(self) -> None:
        self._opening: asyncio.Future[None] | None = None  # while it is closed

    def is_set(self) -> bool:
        return self._opening is None

    def set(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(None)

    def clear(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        while self._opening is not None:
            await asyncio.shield(self._opening)


class Inbox:
    """The queue of messages for ``receive``. An empty ``asyncio.Queue`` would need 3 KiB."""

    __slots__ = ("_messages", "_getters")

    def __init__(self) -> None:
        self._messages: deque[Any] | None = None
        self._getters: list[asyncio.Future[None]] | None = None

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        getters, self._getters = self._getters, None
        for getter in getters or ():
            if not getter.done():  # else who waited was cancelled
                getter.set_result(None)

    def get_nowait(self) -> Any:
        """Return the next message; there must be one."""
        assert self._messages is not None
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
        return message

    def filled(self) -> asyncio.Future[None]:
        """Return a future that is done when the next message is put. Another getter may take that."""
        waiting = [getter for getter in self._getters or () if not getter.done()]
        getter = asyncio.get_running_loop().create_future()
        self._getters = [*waiting, getter]
        return getter
