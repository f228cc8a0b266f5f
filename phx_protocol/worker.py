"""Worker: a task that exists while there is work."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from .logs import get_logger

logger = get_logger("phx_protocol.pubsub")


class Worker:
    """Runs `work` until that returns, once at a time.

    Each run has an empty context: it does the work of many, whoever woke it. Under
    ``asyncio.eager_task_factory`` a run may be over before ``wake`` returns.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        #: whether it runs
        self.is_on = False
        self.task: asyncio.Task[None] | None = None  # of the last run

    def wake(self) -> None:
        """There is work now. To be called on a running event loop."""
        if self.is_on:
            return
        self.is_on = True
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception:
            logger.exception("%s ends", self._work.__qualname__)
        finally:
            self.is_on = False


def is_cancelled() -> bool:
    """Whether somebody wants the current task to end: else it awaited what was cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
