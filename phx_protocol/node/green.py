"""Real threads where gevent or eventlet have replaced them, and a way to wait for one.

Their threads share one thread of the operating system. An event loop in one of them counts as running
in all: every second call, and Django's ORM, would take themselves to be on it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..concurrency import callbacks

Result = TypeVar("Result")

#: seconds between two looks whether a call is done
SHORTEST, LONGEST = 0.0005, 0.01


def real_start_new_thread() -> Callable[..., Any] | None:
    """``_thread.start_new_thread`` as it was; None where nobody has replaced it."""
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
    """Does at once what it is given (the loop looks up host names so).

    A thread of a pool would be a green one beside the loop, for whose end the process would wait
    when it exits: for ever, as nobody runs the loop then.
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
    """An event loop that runs in a real thread, which `start` starts."""
    made: list[asyncio.AbstractEventLoop] = []
    callbacks.threads_are_real = False

    def live() -> None:
        # here: what it waits with belongs to the thread that makes it
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
    """The result of `coroutine`, run on `loop` in a real thread. Raises TimeoutError.

    Other green threads run meanwhile. It looks again and again: what a real thread wakes a green
    one with is a lock, and theirs are not for several threads.
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
        time.sleep(pause)  # the replaced one
        pause = min(2 * pause, LONGEST)
    return done[0].result()
