"""Real threads where gevent or eventlet have replaced them, and a way to wait for one.

Green threads share one thread of the operating system. An event loop in one of them would count as
running in all of them: a second call at the same time, and Django's ORM, would refuse to run on it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from . import callbacks

Result = TypeVar("Result")

#: seconds between two checks if a call is done
SHORTEST, LONGEST = 0.0005, 0.01


def real_start_new_thread() -> Callable[..., Any] | None:
    """Return the original ``_thread.start_new_thread``; None if it was not replaced."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        start: Callable[..., Any] = gevent.get_original("_thread", "start_new_thread")
        return start
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        start = eventlet.original("_thread").start_new_thread
        return start
    return None


class Here(ThreadPoolExecutor):
    """An executor that runs each function at once (the loop uses it to look up host names).

    The threads of a normal pool would be green. The process would wait for their end when it exits:
    for ever, because at that time no loop runs them.
    """

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def new_loop(start: Callable[..., Any]) -> asyncio.AbstractEventLoop:
    """Make an event loop that runs in a real thread, started by `start`."""
    made: list[asyncio.AbstractEventLoop] = []
    callbacks.threads_are_real = False

    def live() -> None:
        # made in this thread, because its selector belongs to the thread that makes it
        loop = asyncio.new_event_loop()
        loop.set_default_executor(Here())
        loop.call_soon(made.append, loop)
        loop.run_forever()

    start(live, ())
    while not made:
        time.sleep(SHORTEST)
    return made[0]


def run(
    coroutine: Coroutine[Any, Any, Result],
    loop: asyncio.AbstractEventLoop,
    timeout: float,
) -> Result:
    """Run `coroutine` on `loop`, which is in a real thread; return its result. Raises TimeoutError.

    Other green threads run meanwhile. It checks again and again if the call is done: a real thread
    could wake a green one only with a lock, and green locks do not work between real threads.
    """
    done: list[asyncio.Task[Result]] = []
    tasks: list[asyncio.Task[Result]] = []

    def begin() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(done.append)

    loop.call_soon_threadsafe(begin)
    end, pause = time.monotonic() + timeout, SHORTEST
    while not done:
        if time.monotonic() > end:
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            raise TimeoutError
        time.sleep(pause)  # the green one: it lets other green threads run
        pause = min(2 * pause, LONGEST)
    return done[0].result()
