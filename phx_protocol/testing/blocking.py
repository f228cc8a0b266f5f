"""connect_sync(): the same client for sync tests, whose callbacks run in the test's own thread."""

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

#: seconds after which a loop from which nothing comes counts as blocked
BLOCKED = 10.0


class Caller(Executor):
    """The executor that runs sync code in the thread of the test, while the test waits for the loop.

    Work that comes while the test does something else runs when the test waits the next time.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: int | None = None
        # the executors in which that thread waits inside of async_to_sync, the innermost last
        self._inner: list[Executor] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        while self._inner:
            try:
                return self._inner[-1].submit(fn, *args, **kwargs)
            except RuntimeError:  # the thread does not wait there any more
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
        """Give all work to `executor`, in which the thread waits now."""
        while not self._work.empty():
            executor.submit(self._work.get())
        self._inner.append(executor)

    def forget(self) -> None:
        """Drop the work that a finished test has left, so that the next test does not run it."""
        while not self._work.empty():
            self._work.get()

    def use_this_thread(self) -> None:
        """Take the current thread for the thread of the test from now on."""
        self._thread = threading.get_ident()

    def is_this_thread(self) -> bool:
        """Return whether the current thread is that of the test."""
        return threading.get_ident() == self._thread

    def wait_for(self, future: Future[Result], timeout: float) -> Result:
        """Do the work that comes until `future` is done, and return its result.

        Raises TimeoutError if no work comes for `timeout` seconds.
        """
        future.add_done_callback(lambda _: self._work.put(lambda: None))
        # restore what sync_to_async sets in a thread for an inner async_to_sync
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
    """An event loop that notices when the test's thread waits for it in an ``async_to_sync``.

    Then it passes the work of other tasks on to there. asgiref would send it to the place where
    the thread waited before, and all would wait for each other (asgiref#348).
    """

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: Unpack[Arguments],
        context: Context | None = None,
    ) -> asyncio.Handle:
        create_task: object = self.create_task  # only AsyncToSync calls it in this way
        if callback == create_task and caller.is_this_thread():
            executor = AsyncToSync.executors.current
            super().call_soon_threadsafe(caller.work_in, executor)
        return super().call_soon_threadsafe(callback, *args, context=context)


class _LoopThread:
    """The event loop of the sync clients of a test, and the thread in which it runs."""

    def __init__(self, layer: object) -> None:
        self.layer = layer  # the channel layer, which is bound to the loop
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._ended: Future[None] = Future()
        threading.Thread(
            target=self._run_loop, name="phx_protocol.testing", daemon=True
        ).start()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._until_stopped())
        self._ended.set_result(None)

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # sync_to_async looks here for the thread of the database connection
        AsyncToSync.loop_thread_executors[loop] = caller  # type: ignore[assignment]
        self._loop.set_result(loop)
        await self._stop.wait()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run `coroutine` and return its result. Raise RuntimeError if a callback blocks the loop."""
        loop = self._loop.result()
        return self._wait_for(asyncio.run_coroutine_threadsafe(coroutine, loop))

    def stop(self) -> None:
        """Cancel the tasks that still run in the loop, and end its thread."""
        caller.forget()
        loop = self._loop.result()
        loop.call_soon_threadsafe(self._stop.set)
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
    """Wait for the result of ``broadcast()`` and the like: the loop may need the test's thread."""
    if caller.is_this_thread():
        return caller.wait_for(future, timeout)
    return future.result(timeout)


def _sync(
    method: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, Params], Result]:
    """Return the sync twin of a `method` of the TestSocket or TestChannel ``_client``."""

    @functools.wraps(method)
    def call(self: Any, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return self._loop_thread.run(method(self._client, *args, **kwargs))  # type: ignore[no-any-return]

    return call


_loop_thread: _LoopThread | None = None
_clients: weakref.WeakSet[SyncTestSocket] = weakref.WeakSet()


def _connect(
    connect: Callable[Params, Coroutine[Any, Any, TestSocket]],
) -> Callable[Params, SyncTestSocket]:
    def call(*args: Params.args, **kwargs: Params.kwargs) -> SyncTestSocket:
        """Connect in a sync test; the arguments are those of ``connect``.

        The result is a context manager, which closes the connection. Raises ConnectionRefused
        when ``connect`` of the socket refuses it.
        """
        thread = _loop_thread_for_a_client()
        return SyncTestSocket(thread, thread.run(connect(*args, **kwargs)))

    return call


def _loop_thread_for_a_client() -> _LoopThread:
    """Return the loop for a client: a new one if no client is left, or the layer changed.

    A test case that has ended may keep its clients, so the clients alone do not decide.
    """
    global _loop_thread
    caller.use_this_thread()
    blocking.wait = _wait
    layer = get_channel_layer(options().channel_layer)
    if _loop_thread is not None and (not _clients or _loop_thread.layer is not layer):
        stale, _loop_thread = _loop_thread, None
        stale.stop()
    if _loop_thread is None:
        _loop_thread = _LoopThread(layer)
    return _loop_thread


connect_sync = _connect(connect)


class SyncTestSocket:
    """The ``TestSocket`` of a sync test."""

    __test__ = False

    def __init__(self, thread: _LoopThread, client: TestSocket) -> None:
        self._loop_thread = thread
        self._client = client
        _clients.add(self)

    @property
    def close_code(self) -> int | None:
        """The code with which the server closed the connection, None while it has not."""
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
        """Join `topic`. Raises JoinDenied with the reply when the answer is an error."""
        return SyncTestChannel(
            self, self._loop_thread.run(self._client.join(topic, payload))
        )

    send = _sync(TestSocket.send)
    close = _sync(TestSocket.close)
    disconnect = _sync(TestSocket.disconnect)
    settled = _sync(TestSocket.settled)
    assert_closed = _sync(TestSocket.assert_closed)


class SyncTestChannel:
    """The ``TestChannel`` of a sync test."""

    __test__ = False

    def __init__(self, socket: SyncTestSocket, client: TestChannel) -> None:
        self.socket = socket
        self._loop_thread = socket._loop_thread
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
