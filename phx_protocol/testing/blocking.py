"""connect_sync(): the same client for tests that are not async, in the test's own thread."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, Unpack

from asgiref.sync import AsyncToSync, SyncToAsync
from channels.layers import get_channel_layer

from ..conf import options
from ..node import blocking
from .clients import TestChannel, TestSocket, connect

Result = TypeVar("Result")
Params = ParamSpec("Params")
Arguments = TypeVarTuple("Arguments")

#: seconds after which a loop that asks for nothing is taken for blocked
BLOCKED = 10.0


class Caller(Executor):
    """Runs what async code wants done in the thread of the test, while that waits for the loop.

    What comes while the test does something else is done at its next call.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: int | None = None
        # where that thread waits in the calls of async_to_sync of its callbacks, the innermost last
        self._inner: list[Executor] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        while self._inner:
            try:
                return self._inner[-1].submit(fn, *args, **kwargs)
            except RuntimeError:  # it waits there no more
                self._inner.pop()
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        self._work.put(run)
        return future

    def work_in(self, executor: Executor) -> None:
        """The thread waits in `executor` now: what waits here is done there."""
        while not self._work.empty():
            executor.submit(self._work.get())
        self._inner.append(executor)

    def forget(self) -> None:
        """Drop what a test that is over has left undone: it is no business of the next one."""
        while not self._work.empty():
            self._work.get()

    def come_here(self) -> None:
        """From now on this is the thread of the test."""
        self._thread = threading.get_ident()

    def is_here(self) -> bool:
        """Whether this is the thread of the test."""
        return threading.get_ident() == self._thread

    def wait_for(self, future: Future[Result], timeout: float) -> Result:
        """Work until `future` is done; its result.

        Raises TimeoutError when there was nothing to work for `timeout` seconds.
        """
        future.add_done_callback(lambda _: self._work.put(lambda: None))
        # what sync_to_async leaves in a thread, for an async_to_sync further in
        place = SyncToAsync.threadlocal
        before = getattr(place, "main_event_loop", None)
        try:
            while not future.done():
                self._work.get(timeout=timeout)()
        except queue.Empty:
            raise TimeoutError from None
        finally:
            place.main_event_loop = before
        return future.result()


caller = Caller()


class _Loop(asyncio.SelectorEventLoop):
    """Tells `caller` when the test's thread waits for this loop in an ``async_to_sync``.

    asgiref gives the work of other tasks to where the thread waited before, and all wait for
    each other (asgiref#348).
    """

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: Unpack[Arguments],
        context: Context | None = None,
    ) -> asyncio.Handle:
        create_task: object = self.create_task  # which AsyncToSync alone calls so
        if callback == create_task and caller.is_here():
            executor = AsyncToSync.executors.current
            super().call_soon_threadsafe(caller.work_in, executor)
        return super().call_soon_threadsafe(callback, *args, context=context)


class _Home:
    """The event loop of the sync clients of a test, in a thread of its own."""

    def __init__(self, layer: object) -> None:
        self.layer = layer  # the channel layer, to which the loop is bound
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._ended: Future[None] = Future()
        threading.Thread(
            target=self._live, name="phx_protocol.testing", daemon=True
        ).start()

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._until_it_is_left())
        self._ended.set_result(None)

    async def _until_it_is_left(self) -> None:
        self._left = asyncio.Event()
        loop = asyncio.get_running_loop()
        # where sync_to_async finds the thread that the database connection belongs to
        AsyncToSync.loop_thread_executors[loop] = caller  # type: ignore[assignment]
        self._loop.set_result(loop)
        await self._left.wait()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The result of `coroutine`. Raises RuntimeError when a callback blocks the loop."""
        loop = self._loop.result()
        return self._wait_for(asyncio.run_coroutine_threadsafe(coroutine, loop))

    def leave(self) -> None:
        """Cancel what still runs there, and end it."""
        caller.forget()
        loop = self._loop.result()
        loop.call_soon_threadsafe(self._left.set)
        self._wait_for(self._ended)
        del AsyncToSync.loop_thread_executors[loop]

    def _wait_for(self, future: Future[Result]) -> Result:
        try:
            return caller.wait_for(future, BLOCKED)
        except TimeoutError:
            if future.done():
                raise
            raise RuntimeError(
                f"the event loop of the test has done nothing for {BLOCKED} seconds: "
                "an async callback blocks it"
            ) from None


def _wait(future: Future[Result], timeout: float) -> Result:
    """How ``broadcast()`` and its like wait: the loop may need the test's thread to do it."""
    if caller.is_here():
        return caller.wait_for(future, timeout)
    return future.result(timeout)


def _sync(
    method: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, Params], Result]:
    """`method` of a TestSocket or TestChannel, for what has one as ``_client``."""

    @functools.wraps(method)
    def call(self: Any, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return self._home.run(method(self._client, *args, **kwargs))  # type: ignore[no-any-return]

    return call


_home: _Home | None = None
_clients: weakref.WeakSet[SyncTestSocket] = weakref.WeakSet()


def _connect(
    connect: Callable[Params, Coroutine[Any, Any, TestSocket]],
) -> Callable[Params, SyncTestSocket]:
    def call(*args: Params.args, **kwargs: Params.kwargs) -> SyncTestSocket:
        """``connect`` for a test that is not async. A context manager, which closes it.

        Raises ConnectionRefused when ``connect`` of the socket says so.
        """
        home = _home_for_one_more()
        return SyncTestSocket(home, home.run(connect(*args, **kwargs)))

    return call


def _home_for_one_more() -> _Home:
    """A new one when no test knows of the clients of the old one any more, or the layer is another:
    a test case that is over may keep its clients.
    """
    global _home
    caller.come_here()
    blocking.wait = _wait
    layer = get_channel_layer(options().channel_layer)
    if _home is not None and (not _clients or _home.layer is not layer):
        left, _home = _home, None
        left.leave()
    if _home is None:
        _home = _Home(layer)
    return _home


connect_sync = _connect(connect)


class SyncTestSocket:
    """``TestSocket``, for a test that is not async."""

    __test__ = False

    def __init__(self, home: _Home, client: TestSocket) -> None:
        self._home = home
        self._client = client
        _clients.add(self)

    @property
    def close_code(self) -> int | None:
        """As ``TestSocket.close_code``."""
        return self._client.close_code

    def __enter__(self) -> SyncTestSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def join(self, topic: str, payload: Any = None) -> SyncTestChannel:
        """As ``TestSocket.join``."""
        return SyncTestChannel(self, self._home.run(self._client.join(topic, payload)))

    send = _sync(TestSocket.send)
    close = _sync(TestSocket.close)
    disconnect = _sync(TestSocket.disconnect)
    settled = _sync(TestSocket.settled)
    assert_closed = _sync(TestSocket.assert_closed)


class SyncTestChannel:
    """``TestChannel``, for a test that is not async."""

    __test__ = False

    def __init__(self, socket: SyncTestSocket, client: TestChannel) -> None:
        self.socket = socket
        self._home = socket._home
        self._client = client
        self.topic = client.topic
        self.reply = client.reply

    push = _sync(TestChannel.push)
    assert_reply = _sync(TestChannel.assert_reply)
    refute_reply = _sync(TestChannel.refute_reply)
    assert_push = _sync(TestChannel.assert_push)
    refute_push = _sync(TestChannel.refute_push)
    assert_broadcast = _sync(TestChannel.assert_broadcast)
    refute_broadcast = _sync(TestChannel.refute_broadcast)
    assert_ended = _sync(TestChannel.assert_ended)
    leave = _sync(TestChannel.leave)
    close = _sync(TestChannel.close)
