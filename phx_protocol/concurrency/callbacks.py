"""Calling what users write, be it ``async def`` or a plain ``def`` that runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, iscoroutinefunction, sync_to_async
from channels.db import database_sync_to_async
from django.db import close_old_connections, connections

from ..conf import options
from ..logs import get_logger

logger = get_logger("phx_protocol.callbacks")

AsyncCallable = Callable[..., Awaitable[Any]]
Finish = Callable[[Any], Any]

# Tests switch this on: callbacks then run where the test's own database connection is, and
# nobody closes it but the test.
thread_sensitive = False

# ``pubsub.green`` switches this off: a thread of Django's would be a green one beside our loop.
threads_are_real = True

# How often connections that the database has dropped are looked for, in seconds.
STALE_AFTER = 1.0
_looked_at = -math.inf


#: threads in which users and their permissions are looked up
LOOKING = 4


@functools.cache
def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=name)


def find(owner: type, name: str) -> Any:
    """The attribute as a class of `owner`'s MRO has it, not bound. Raises AttributeError."""
    for each in owner.__mro__:
        attributes = vars(each)
        if name in attributes:
            return attributes[name]
    raise AttributeError(f"{owner.__name__} has no {name}")


def definition(found: Any) -> Any:
    """The function or object behind the descriptors and partials of a class attribute."""
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
    owner: type, name: str, arguments: int, finish: Finish | None = None
) -> AsyncCallable:
    """The attribute `name` of `owner` as a function of an instance and `arguments` more that can
    be awaited, whatever kind of callable it is.

    It is bound as Python binds it. One that is no method by itself (an object with ``__call__``, a
    ``functools.partial``) gets the instance first, as a function would. An async callable runs on
    the event loop. Any other runs in a thread of our own (setting SYNC_THREADS), not in Django's
    one thread for sync code, where a slow callback would hold up every view; `finish` is applied
    to what it returns, in that thread. What it returns is awaited if it can be: nobody can tell
    from outside that a sync wrapper has an ``async def`` behind it.

    Raises TypeError for what cannot be called so, and for generators, of which nothing would run.
    """
    found, where = find(owner, name), f"{owner.__name__}.{name}"
    if isinstance(found, FunctionType) and not _takes(found, arguments + 1):
        raise _takes_others(where, arguments)
    if _is_coroutine_method(found):
        function: AsyncCallable = found
        return function
    bind = _binder(owner, found, arguments, where)

    async def call(instance: Any, *args: Any) -> Any:
        return await call_async(bind(instance), *args, finish=finish, where=where)

    return call


async def call_async(
    function: Callable[..., Any],
    *args: Any,
    finish: Finish | None = None,
    where: str = "a callback",
) -> Any:
    """Call `function`, which is bound, as ``as_method`` says."""
    if is_async(function):
        return await settled(function(*args), where)
    sync = function if finish is None else _finished(function, finish)
    return await settled(await _in_thread(sync, *args), where)


async def look_up(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function`, which asks whether somebody may be here, and nothing else.

    One that is sync has threads that no callback keeps busy: one of these, or a handler behind
    ``database_sync_to_async``, may wait for this answer.
    """
    if is_async(function):
        return await settled(function(*args))
    pool = _pool(LOOKING, "phx_protocol.look")
    return await settled(await _in_thread(function, *args, pool=pool))


async def settled(answer: Any, where: str = "a callback") -> Any:
    """Await `answer` if it can be awaited, and return the result.

    Raises TypeError for a generator and for a context manager: what they hold has not run.
    """
    while inspect.isawaitable(answer):
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
    """Whether calling `function` makes an awaitable and does nothing else."""
    inner = definition(function)
    call = getattr(inner, "__call__", None)  # noqa: B004 - it is looked into
    return iscoroutinefunction(inner) or iscoroutinefunction(call)


def is_left_early(found: Any) -> bool:
    """Whether a context manager that decorates an ``async def`` (``@transaction.atomic``) is left
    when that is called, before it runs."""
    found = definition(found)
    while isinstance(found, FunctionType) and not is_async(found):
        inner = getattr(found, "__wrapped__", None)
        if found.__code__.co_qualname == "ContextDecorator.__call__.<locals>.inner":
            return inner is not None and is_async(inspect.unwrap(inner))
        found = inner
    return False


def parameters(owner: type, name: str, arguments: int) -> list[str]:
    """The names of what the attribute takes beside the instance, as far as anything tells."""
    found = find(owner, name)
    bound = _binder(owner, found, arguments, name)(object.__new__(owner))
    try:
        if isinstance(bound, functools.partial) and hasattr(bound, "__wrapped__"):
            # how a decorator that is a class binds: it shows the signature of the function
            return list(inspect.signature(bound.__wrapped__).parameters)[1:]
        return list(inspect.signature(bound).parameters)
    except ValueError:
        return []


def _is_coroutine_method(found: Any) -> bool:
    """Whether `found` is a plain ``async def``, or a wrapper that is one."""
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
    # a partial binds itself from Python 3.14 on, as all are bound here
    is_partial = isinstance(found, functools.partial)
    get = None if is_partial else getattr(type(found), "__get__", None)
    if get is not None:
        # an instance that nothing has initialized is enough to be bound to
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
    """Whether `function` can be called with so many; so it is taken to be if nothing can tell."""
    try:
        # its own signature: a wrapper shows that of what it wraps, which is not bound
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


def look_for_stale_connections() -> None:
    """Close connections that the database has dropped, if the last look is a second ago.

    Channels looks before every message and waits for it, which is a hop to a thread and most of
    what a hand-written consumer costs. A timer looks once more when nothing comes any more: what
    the last callback has opened is closed as CONN_MAX_AGE says.
    """
    global _looked_at
    now = time.monotonic()
    if now - _looked_at >= STALE_AFTER:
        _looked_at = now
        close_stale_connections()
        if not thread_sensitive and threads_are_real:
            _look_again_in(STALE_AFTER)


def close_stale_connections() -> None:
    """Close them in the thread in which Django's async ORM works.

    Nobody waits for it: that thread does it before whatever a callback then asks of it.
    (Callbacks that run in a thread look there themselves, through ``database_sync_to_async``.)
    """
    if not thread_sensitive and threads_are_real:
        SyncToAsync.single_thread_executor.submit(close_old)


# Whether a callback runs: what it has under way must not lose its connection in the middle.
# ``pubsub``, which knows the channels, replaces it.
is_busy: Callable[[], bool] = bool

_timers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.TimerHandle]
_timers = WeakKeyDictionary()


def _look_again_in(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    if loop in _timers:
        _timers[loop].cancel()
    context = contextvars.Context()  # it is no part of what happens to run now
    _timers[loop] = loop.call_later(seconds, _look_again, context=context)


def _look_again() -> None:
    loop = asyncio.get_running_loop()
    if is_busy():
        return _look_again_in(STALE_AFTER)
    del _timers[loop]
    looking = SyncToAsync.single_thread_executor.submit(_close_and_tell)
    looking.add_done_callback(functools.partial(_go_on_looking, loop))


def _go_on_looking(
    loop: asyncio.AbstractEventLoop, looking: Future[float | None]
) -> None:
    seconds = looking.result()
    if seconds is not None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(_look_again_unless_armed, seconds)


def _look_again_unless_armed(seconds: float) -> None:
    if asyncio.get_running_loop() not in _timers:
        _look_again_in(seconds)


def _close_and_tell() -> float | None:
    """Close what is due; seconds until the next of this thread's connections is, None for none."""
    close_old()
    ends = [
        connection.close_at
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None and connection.close_at is not None
    ]
    return max(min(ends) - time.monotonic(), STALE_AFTER) if ends else None


def close_old() -> None:
    """Close the connections of this thread that are of no more use; never raises."""
    try:
        close_old_connections()
    except Exception:
        logger.exception("stale database connections cannot be closed")
