"""Tasks: how one begins, and whether it is to end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def begin(
    run: Coroutine[Any, Any, Result], context: contextvars.Context | None = None
) -> asyncio.Task[Result]:
    """Run `run` in a task that takes its first step when the loop has its turn.

    It runs in an empty context unless another is given: what it does is no part of the request that
    happened to begin it, and may outlive it.

    So who keeps the task has it before it runs, or is over, whatever the task factory of the
    loop: ``asyncio.eager_task_factory`` takes that step at once.
    """
    loop = asyncio.get_running_loop()
    return asyncio.Task(run, loop=loop, context=context or contextvars.Context())


def is_cancelled() -> bool:
    """Whether somebody wants the current task to end: else it awaited what was cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


#: what a callback may raise: a cancellation too, of something that it awaited
CRASHES = (Exception, asyncio.CancelledError)


def must_end(error: BaseException) -> bool:
    """Whether `error`, one of CRASHES, is the cancellation of the current task, and no crash."""
    return isinstance(error, asyncio.CancelledError) and is_cancelled()


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel `task`, and wait until it is over."""
    # below Python 3.12 redis-py's wait_for() swallows a cancellation now and then
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
