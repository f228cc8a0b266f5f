"""Calling the functions of users: ``async def``, or a plain ``def``, which runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import FunctionType, MethodType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, iscoroutinefunction, sync_to_async
from channels.db import database_sync_to_async
from django.db import close_old_connections, connections

from ..conf import options
from ..logs import get_logger

logger = get_logger("phx_protocol.callbacks")

Result = TypeVar("Result")

AsyncCallable = Callable[..., Awaitable[Any]]
Finish = Callable[[Any], Any]
#: makes the context manager around a callback, from the instance and the arguments of the callback
Enter = Callable[..., contextlib.AbstractContextManager[Any]]

# Tests switch this on: callbacks then run in the thread of the test's own database connection,
# and only the test closes that connection.
thread_sensitive = False

# ``green`` switches this off: Django's threads would be green ones, not real threads.
threads_are_real = True

# Seconds between two searches for connections that the database has dropped.
STALE_AFTER = 1.0
_closed_at = -math.inf


#: number of threads that look up users and their permissions
LOOKUP_THREADS = 4


@functools.cache
def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=name)


def start_threads() -> None:
    """Start all threads of callbacks: since Python 3.12 none can be started while a process exits."""
    threads = options().sync_threads
    all_run = threading.Barrier(threads)
    for _ in range(threads):
        _pool(threads, "phx_protocol").submit(all_run.wait)


def find(owner: type, name: str) -> Any:
    """Return the attribute from the dict of a class in `owner`'s MRO, not bound. Raises AttributeError."""
    for each in owner.__mro__:
        attributes = vars(each)
        if name in attributes:
            return attributes[name]
    raise AttributeError(f"{owner.__name__} has no {name}")


def definition(found: Any) -> Any:
    """Return the function or object inside the descriptors and partials of a class attribute."""
    while True:
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
        elif isinstance(found, (functools.partial, functools.partialmethod)):
            found = found.func
        elif isinstance(found, MethodType) and not isinstance(
            found.__func__, FunctionType
        ):
            found = found.__func__
        else:
            return found


def as_method(
    owner: type,
    name: str,
    arguments: int,
    finish: Finish | None = None,
    enter: Enter | None = None,
) -> AsyncCallable:
    """Return the attribute `name` of `owner` as an async function of an instance and `arguments` more.

    The attribute may be any kind of callable. It is bound as Python binds it. A callable that is not
    a descriptor (an object with ``__call__``, a ``functools.partial``) gets the instance as its first
    argument, as a function would. An async callable runs on the event loop. Any other runs in one of
    our own threads (setting SYNC_THREADS), not in Django's single thread for sync code, where a slow
    callback would block every view; `finish` is applied to its result in that thread. A result that
    can be awaited is awaited: a sync wrapper may call an ``async def``, which cannot be seen from
    outside. With `enter` all that runs inside the context manager that it makes, in the same thread.

    Raises TypeError if it does not accept these arguments, and for generators, which would not run.
    """
    found, where = find(owner, name), f"{owner.__name__}.{name}"
    if isinstance(found, FunctionType) and not _takes(found, arguments + 1):
        raise _takes_others(where, arguments)
    if _is_coroutine_method(found) and enter is None:
        function: AsyncCallable = found
        return function
    bind = _binder(owner, found, arguments, where)

    async def call(instance: Any, *args: Any) -> Any:
        return await call_async(bind(instance), *args, finish=finish, where=where)

    async def call_inside(instance: Any, *args: Any) -> Any:
        assert enter is not None
        context = functools.partial(enter, instance, *args)
        return await _call_inside(context, bind(instance), args, finish, where)

    return call if enter is None else call_inside


async def call_async(
    function: Callable[..., Any],
    *args: Any,
    finish: Finish | None = None,
    where: str = "a callback",
) -> Any:
    """Call `function`, which is bound, in the way that ``as_method`` describes."""
    if is_async(function):
        return await settled(function(*args), where)
    sync = function if finish is None else _finished(function, finish)
    return await settled(await _in_thread(sync, *args), where)


async def _call_inside(
    context: Enter,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    finish: Finish | None,
    where: str,
) -> Any:
    """Call `function` as ``call_async`` does, inside the context manager that `context` makes."""
    if is_async(function):
        with context():
            answer = await settled(function(*args), where)
            # here too: what is lazy is read inside of it
            return answer if finish is None else finish(answer)
    sync = function if finish is None else _finished(function, finish)

    def run() -> Any:
        with context():
            return sync(*args)

    answer = await _in_thread(run)
    if not inspect.isawaitable(answer):
        return await settled(answer, where)
    with context():  # only a wrapper of an ``async def`` has run
        return await settled(answer, where)


async def look_up(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function`, which only looks up a user or a permission.

    A sync function runs in threads that callbacks do not use: all threads of callbacks, or a handler
    behind ``database_sync_to_async``, may be waiting for this result.
    """
    if is_async(function):
        return await settled(function(*args))
    pool = _pool(LOOKUP_THREADS, "phx_protocol.lookup")
    return await settled(await _in_thread(function, *args, pool=pool))


async def settled(answer: Any, where: str = "a callback") -> Any:
    """Await `answer` if it can be awaited, and return the result.

    Raises TypeError for a generator and for a context manager: their code has not run.
    """
    while answer is not None and inspect.isawaitable(answer):
        answer = await answer
    if answer is not None and isinstance(answer, _NOT_RUN):
        raise TypeError(f"{where} returned {answer!r:.100}, of which nothing has run")
    return answer


_NOT_RUN = (
    Generator,
    AsyncGenerator,
    contextlib._GeneratorContextManager,
    contextlib._AsyncGeneratorContextManager,
)


def is_async(function: Any) -> bool:
    """Return True if calling `function` only creates an awaitable."""
    inner = definition(function)
    call = getattr(inner, "__call__", None)  # noqa: B004 - it is looked into
    return iscoroutinefunction(inner) or iscoroutinefunction(call)


def is_left_early(found: Any) -> bool:
    """Return True if a context manager (``@transaction.atomic``) decorates an ``async def``.

    Such a context manager exits when the coroutine is created, before its code runs.
    """
    found = definition(found)
    while isinstance(found, FunctionType) and not is_async(found):
        inner = getattr(found, "__wrapped__", None)
        if found.__code__.co_qualname == "ContextDecorator.__call__.<locals>.inner":
            return inner is not None and is_async(inspect.unwrap(inner))
        found = inner
    return False


def parameters(owner: type, name: str, arguments: int) -> list[str]:
    """Return the names of the attribute's parameters after the instance; empty if they are not known."""
    found = find(owner, name)
    bound = _binder(owner, found, arguments, name)(object.__new__(owner))
    try:
        if isinstance(bound, functools.partial) and hasattr(bound, "__wrapped__"):
            # bound by a decorator that is a class: it has the signature of the function
            return list(inspect.signature(bound.__wrapped__).parameters)[1:]
        return list(inspect.signature(bound).parameters)
    except ValueError:
        return []


def _is_coroutine_method(found: Any) -> bool:
    """Return True if `found` is a plain ``async def``, or a wrapper that is one."""
    return isinstance(found, FunctionType) and inspect.iscoroutinefunction(found)


def _binder(
    owner: type, found: Any, arguments: int, where: str
) -> Callable[[Any], Callable[..., Any]]:
    """Return the function that binds the attribute to an instance. Raises TypeError."""
    inner = definition(found)
    if not callable(inner):
        raise TypeError(f"{where} must be a function or method, not {found!r:.100}")
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{where} is a generator: it has a `yield`, and nobody iterates"
        )
    if isinstance(found, FunctionType):
        return functools.partial(MethodType, found)
    # from Python 3.14 on a partial binds itself; here all versions do that in the same way, below
    is_partial = isinstance(found, functools.partial)
    get = None if is_partial else getattr(type(found), "__get__", None)
    if get is not None:
        # to try the binding, an instance whose ``__init__`` did not run is enough
        bound = get(found, object.__new__(owner), owner)
        if _takes(bound, arguments):
            return lambda instance: get(found, instance, type(instance))
    function = inner if isinstance(found, staticmethod) else found
    if callable(function) and _takes(function, arguments + 1):
        return functools.partial(functools.partial, function)
    if get is None and _takes(found, arguments):
        return lambda instance: found
    raise _takes_others(where, arguments)


def _takes_others(where: str, arguments: int) -> TypeError:
    return TypeError(f"{where} must take {arguments} arguments beside the instance")


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    """Return True if `function` accepts so many arguments, or if its signature is not known."""
    try:
        # its own signature, not that of a wrapped function, which is not bound
        inspect.signature(function, follow_wrapped=False).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _finished(function: Callable[..., Any], finish: Finish) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        answer = function(*args)
        return answer if inspect.isawaitable(answer) else finish(answer)

    return call


async def _in_thread(
    function: Callable[..., Any], *args: Any, pool: ThreadPoolExecutor | None = None
) -> Any:
    if thread_sensitive:
        return await sync_to_async(function, thread_sensitive=True)(*args)
    pool = pool or _pool(options().sync_threads, "phx_protocol")
    call = database_sync_to_async(function, thread_sensitive=False, executor=pool)
    return await call(*args)


def close_stale_connections_if_due() -> None:
    """Close connections that the database has dropped, if the last search was a second ago or more.

    Channels does this before every message and waits for it: a switch to a thread, which is most
    of the cost of a hand-written consumer. When no more messages come, a timer searches once more,
    so that connections which the last callback opened are closed after CONN_MAX_AGE.
    """
    global _closed_at
    now = time.monotonic()
    if now - _closed_at >= STALE_AFTER:
        _closed_at = now
        close_stale_connections()
        if not thread_sensitive and threads_are_real:
            _schedule_check(STALE_AFTER)


def close_stale_connections() -> None:
    """Close stale connections in the thread in which Django's async ORM works, without waiting.

    That thread does it before the next query of a callback. (Callbacks that run in a thread of our
    own close stale connections there, through ``database_sync_to_async``.)
    """
    if not thread_sensitive and threads_are_real:
        submit(SyncToAsync.single_thread_executor, close_old)


def submit(executor: Executor, call: Callable[[], Result]) -> Future[Result] | None:
    """Have `executor` run `call`; return None if the process is ending, and its threads with it."""
    try:
        return executor.submit(call)
    except RuntimeError:
        return None


# Returns True while a callback runs: it must not lose its connection in the middle.
# ``node.blocking``, which knows the connections, replaces it.
is_busy: Callable[[], bool] = bool

_timers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.TimerHandle]
_timers = WeakKeyDictionary()


def _schedule_check(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    if loop in _timers:
        _timers[loop].cancel()
    context = contextvars.Context()  # empty: it does not belong to the current request
    _timers[loop] = loop.call_later(seconds, _check, context=context)


def _check() -> None:
    loop = asyncio.get_running_loop()
    if is_busy():
        return _schedule_check(STALE_AFTER)
    del _timers[loop]
    closing = submit(SyncToAsync.single_thread_executor, _close_due)
    if closing is not None:
        closing.add_done_callback(functools.partial(_after_check, loop))


def _after_check(
    loop: asyncio.AbstractEventLoop, closing: Future[float | None]
) -> None:
    seconds = closing.result()
    if seconds is not None:
        with contextlib.suppress(RuntimeError):  # raised if the loop has been closed
            loop.call_soon_threadsafe(_schedule_check_if_none, seconds)


def _schedule_check_if_none(seconds: float) -> None:
    if asyncio.get_running_loop() not in _timers:
        _schedule_check(seconds)


def _close_due() -> float | None:
    """Close the stale connections of this thread.

    Return the seconds until the next one becomes stale, or None if there is none.
    """
    close_old()
    ends = [
        connection.close_at
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None and connection.close_at is not None
    ]
    return max(min(ends) - time.monotonic(), STALE_AFTER) if ends else None


def close_old() -> None:
    """Close the connections of this thread that are unusable or too old; never raises."""
    try:
        close_old_connections()
    except Exception:
        logger.exception("stale database connections cannot be closed")
