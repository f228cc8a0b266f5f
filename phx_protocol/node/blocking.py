"""Calling async functions from synchronous code: they run on an event loop of this process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from channels.layers import get_channel_layer
from django.conf import settings

from ..bus.bus import is_on
from ..bus.folder import neighbours
from ..concurrency import callbacks, green
from ..concurrency.own_loop import own_loop
from ..conf import options
from ..logs import get_logger
from ..pubsub.link import is_in_memory
from ..pubsub.serving import mounted
from .node import serving_nodes

logger = get_logger("phx_protocol.pubsub")

Params = ParamSpec("Params")
Result = TypeVar("Result")

#: most seconds that synchronous code waits
TIMEOUT = 10.0

# Tests replace it: the loop may need the waiting thread, which has the test's database connection.
wait: Callable[[concurrent.futures.Future[Any], float], Any]
wait = concurrent.futures.Future.result


def run(
    coroutine: Coroutine[Any, Any, Result],
    name: str,
    advice: str,
    loop: asyncio.AbstractEventLoop | None = None,
    timeout: float = TIMEOUT,
) -> Result:
    """Run `coroutine` on `loop`, and return its result.

    Without `loop` it runs on a loop that serves sockets, or else on one in a thread of its own.
    Raises RuntimeError on a running event loop, which `name` would block; its text recommends
    `advice`. Raises TimeoutError after `timeout` seconds.
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
        loop = serving[0].loop if serving else own_loop()
    try:
        if green.real_start_new_thread() is not None:
            return green.run(on_its_own(coroutine), loop, timeout)
        return _run(on_its_own(coroutine), loop, timeout)
    except TimeoutError as error:
        raise TimeoutError(f"{name}() was not done in {timeout} seconds") from error


def sync(
    function: Callable[Params, Coroutine[Any, Any, Result]],
    timeout: Callable[[], float] = lambda: TIMEOUT,
    raises: type[Exception] = TimeoutError,
) -> Callable[Params, Result]:
    """Make the twin of an async function for synchronous code: ``drain = sync(adrain)``.

    The twin raises the errors of `function`, RuntimeError on a running event loop, and `raises` if
    `function` is not done after the seconds that `timeout` returns.
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
#: a server takes its place with its first request, unless it has a lifespan
NO_SERVER = "no server of this project is found on this machine (it is from its first request on)"


def warn_if_nobody_hears(name: str) -> None:
    """Warn once, with DEBUG on, that a call in a shell or a worker reaches no client.

    That is so if this process, which calls `name`, has no sockets, the channel layer is in memory, and
    the local bus leads to no process that has some.
    """
    global _warned
    if _warned or not settings.DEBUG or mounted or serving_nodes():
        return
    if is_in_memory(get_channel_layer(options().channel_layer)):
        if is_on() and any(process.serves for process in neighbours()):
            return
        _warned = True
        logger.warning(
            "%s() reaches nobody: this process serves no sockets, the channel layer is in memory, "
            "and %s. Configure phx_protocol.layers.RedisLayer in CHANNEL_LAYERS to reach the "
            "server from everywhere.",
            name,
            NO_SERVER if is_on() else "LOCAL_BUS is off",
        )


async def on_its_own(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run `coroutine` with a thread of its own for the sync code that it awaits, mostly Django's ORM.

    asgiref would use the thread of the caller, which is blocked: it waits for `coroutine`.
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
        # a new one: the old one's thread may still be busy
        place = ThreadSensitiveContext()
        raise
    finally:
        _close_old_connections(place)
        if len(_places) < IDLE:
            _places.append(place)


def _close_old_connections(place: ThreadSensitiveContext) -> None:
    """Close old connections, as Django does before and after a request; do not wait for it."""
    executor = SyncToAsync.context_to_thread_executor.get(place)
    if executor is not None:  # None if no sync code has been awaited yet
        callbacks.submit(executor, callbacks.close_old)


#: most idle threads that are kept for the sync code of calls
IDLE = 8
# contexts for such code that no call uses now; each has a thread of its own if it has run any
_places: list[ThreadSensitiveContext] = []


def _is_busy() -> bool:
    nodes = serving_nodes()
    return any(socket.busy() for node in nodes for socket in node.connections)


callbacks.is_busy = _is_busy

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_places.clear)
