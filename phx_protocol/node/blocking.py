"""What synchronous code asks for runs on a loop of this process, and is waited for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from channels.layers import get_channel_layer
from django.conf import settings

from ..concurrency import callbacks
from ..conf import options
from ..logs import get_logger
from ..pubsub.link import is_in_memory
from ..pubsub.serving import mounted
from . import green
from .node import serving_nodes

logger = get_logger("phx_protocol.pubsub")

Params = ParamSpec("Params")
Result = TypeVar("Result")

#: seconds that synchronous code waits
TIMEOUT = 10.0

# Tests replace it: the loop may need the thread that waits, for the test's database connection.
wait: Callable[[concurrent.futures.Future[Any], float], Any]
wait = concurrent.futures.Future.result


def run(
    coroutine: Coroutine[Any, Any, Result],
    name: str,
    advice: str,
    loop: asyncio.AbstractEventLoop | None = None,
    timeout: float = TIMEOUT,
) -> Result:
    """The result of `coroutine`, run on `loop`, or where this process does such things.

    Raises RuntimeError on a running event loop, where `name` must not block and `advice` is
    right; TimeoutError after `timeout` seconds.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        coroutine.close()
        raise RuntimeError(f"{name}() blocks: on an event loop it is `{advice}`")
    if loop is None:
        warn_if_nobody_hears(name)
        serving = serving_nodes()
        loop = serving[0].loop if serving else _own_loop()
    try:
        if green.real_start_new_thread() is not None:
            return green.run(_on_its_own(coroutine), loop, timeout)
        return _run(_on_its_own(coroutine), loop, timeout)
    except TimeoutError as error:
        raise TimeoutError(f"{name}() was not done in {timeout} seconds") from error


def sync(
    function: Callable[Params, Coroutine[Any, Any, Result]],
    timeout: Callable[[], float] = lambda: TIMEOUT,
    raises: type[Exception] = TimeoutError,
) -> Callable[Params, Result]:
    """Make the twin of an async function for synchronous code: ``drain = sync(adrain)``.

    It raises what `function` raises, RuntimeError on a running event loop, and `raises` when
    there is no answer after so many seconds as `timeout` says.
    """
    name = function.__name__.removeprefix("a")

    @functools.wraps(function)
    def call(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        advice = f"await {function.__name__}(...)"
        try:
            return run(function(*args, **kwargs), name, advice, timeout=timeout())
        except TimeoutError as error:
            if raises is TimeoutError:
                raise
            raise raises(f"the channel layer did not answer: {error}") from error

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``{function.__name__}`` for synchronous code."
    return call


def _run(
    coroutine: Coroutine[Any, Any, Result],
    loop: asyncio.AbstractEventLoop,
    timeout: float,
) -> Result:
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        result: Result = wait(future, timeout)
        return result
    except TimeoutError:
        future.cancel()
        raise


_warned = False


def warn_if_nobody_hears(name: str) -> None:
    """Say once, with DEBUG on, that a call in a shell or a worker reaches no client: `name` is called
    in a process without sockets, and the channel layer is in memory."""
    global _warned
    if _warned or not settings.DEBUG or mounted or serving_nodes():
        return
    if is_in_memory(get_channel_layer(options().channel_layer)):
        _warned = True
        logger.warning(
            "%s() reaches nobody: this process serves no sockets, and the channel layer is in "
            "memory, so no other process hears of it. Configure a Redis layer in CHANNEL_LAYERS "
            "to reach the clients of the server from a shell, a worker or a command.",
            name,
        )


async def _on_its_own(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run `coroutine` so that the sync code which it awaits, the ORM's above all, has a thread.

    asgiref would give it the thread that belongs to the caller, which waits for `coroutine`.
    """
    if callbacks.thread_sensitive:
        return await coroutine
    try:
        place = _places.pop()
    except IndexError:
        place = ThreadSensitiveContext()
        if green.real_start_new_thread() is not None:
            SyncToAsync.context_to_thread_executor[place] = green.Here()
    AsyncToSync.executors.current = None
    SyncToAsync.deadlock_context.set(False)
    SyncToAsync.thread_sensitive_context.set(place)
    _close_old_connections(place)
    try:
        return await coroutine
    except asyncio.CancelledError:
        place = ThreadSensitiveContext()  # its thread may be busy still
        raise
    finally:
        _close_old_connections(place)
        if len(_places) < IDLE:
            _places.append(place)


def _close_old_connections(place: ThreadSensitiveContext) -> None:
    """As Django does before and after a request. Nobody waits for it."""
    executor = SyncToAsync.context_to_thread_executor.get(place)
    if executor is not None:  # sync code has been awaited
        executor.submit(callbacks.close_old)


#: threads that are kept for the sync code of calls
IDLE = 8
# where such code runs, each with a thread of its own if need be: those that no call uses now
_places: list[ThreadSensitiveContext] = []


def _is_busy() -> bool:
    nodes = serving_nodes()
    return any(socket.busy() for node in nodes for socket in node.connections)


callbacks.is_busy = _is_busy

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _own_loop() -> asyncio.AbstractEventLoop:
    """A loop in a thread of its own, made once: a loop per call costs 4 ms and a connection."""
    global _loop
    with _lock:
        if _loop is None:
            start = green.real_start_new_thread()
            _loop = _loop_in_thread() if start is None else green.new_loop(start)
        return _loop


def _loop_in_thread() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(
        target=loop.run_forever, name="phx_protocol.publisher", daemon=True
    ).start()
    return loop


def _after_fork() -> None:
    global _loop, _lock
    _loop, _lock = None, threading.Lock()
    _places.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
