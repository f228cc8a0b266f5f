"""Tasks: how to start and end one, and whether it is being cancelled."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def begin(
    run: Coroutine[Any, Any, Result], context: contextvars.Context | None = None
) -> asyncio.Task[Result]:
    """Run `run` in a task that takes its first step in the next iteration of the loop.

    So the caller can store the task before it runs or ends, whatever task factory the loop has:
    ``asyncio.eager_task_factory`` would take the first step at once.

    The task runs in an empty context unless another is given: it does not belong to the request
    that started it, and may last longer than that.
    """
    loop = asyncio.get_running_loop()
    return asyncio.Task(run, loop=loop, context=context or contextvars.Context())


def is_cancelled() -> bool:
    """Return True if the current task is being cancelled.

    If it is False, a CancelledError comes from something that the task awaited.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


#: the errors that a callback may raise, which include the cancellation of something that it awaited
CRASHES = (Exception, asyncio.CancelledError)


def must_end(error: BaseException) -> bool:
    """Return True if `error`, one of CRASHES, is the cancellation of the current task, not a crash."""
    return isinstance(error, asyncio.CancelledError) and is_cancelled()


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel `task`, and wait until it is over."""
    # again and again: below Python 3.12 redis-py's wait_for() sometimes swallows a cancellation
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


async def within(seconds: float, future: asyncio.Future[Any]) -> bool:
    """Wait until `future` is done, `seconds` at most; return whether it is.

    It costs a third of ``asyncio.timeout`` around ``asyncio.shield``. `future` is not cancelled.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(*args: Any) -> None:
        if not woken.done():
            woken.set_result(None)

    timer = loop.call_later(seconds, wake)
    future.add_done_callback(wake)
    try:
        await woken
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    return future.done()


async def let_others_run() -> None:
    """Let all that is ready run, also what has come for other clients meanwhile.

    After one ``sleep(0)`` this task would run before the loop has looked at the connections.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)
