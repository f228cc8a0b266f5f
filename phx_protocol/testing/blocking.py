"""connect_sync(): the same client for tests that are not async, in the test's own thread."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync

from .clients import TestChannel, TestSocket, connect

Result = TypeVar("Result")
Params = ParamSpec("Params")


class Caller(Executor):
    """Runs what async code wants done in the thread of the test, while that waits for the loop.

    What comes while the test does something else is done at its next call.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        self._work.put(run)
        return future

    def wait_for(self, future: Future[Result]) -> Result:
        """Work until `future` is done; its result."""
        future.add_done_callback(lambda _: self._work.put(lambda: None))
        # what sync_to_async leaves in a thread, for an async_to_sync further in
        place = SyncToAsync.threadlocal
        before = getattr(place, "main_event_loop", None)
        try:
            while not future.done():
                self._work.get()()
        finally:
            place.main_event_loop = before
        return future.result()


caller = Caller()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all sync clients, in a thread of its own, as long as the process lives."""
    loop = asyncio.new_event_loop()
    threading.Thread(
        target=loop.run_forever, name="phx_protocol.testing", daemon=True
    ).start()
    # where sync_to_async finds the thread that the database connection belongs to
    AsyncToSync.loop_thread_executors[loop] = caller  # type: ignore[assignment]
    return loop


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of `coroutine`, run on that loop."""
    return caller.wait_for(asyncio.run_coroutine_threadsafe(coroutine, _loop()))


def _sync(
    method: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, Params], Result]:
    """`method` of a TestSocket or TestChannel, for what has one as ``_client``."""

    @functools.wraps(method)
    def call(self: Any, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return run(method(self._client, *args, **kwargs))

    return call


def _connect(
    connect: Callable[Params, Coroutine[Any, Any, TestSocket]],
) -> Callable[Params, SyncTestSocket]:
    def call(*args: Params.args, **kwargs: Params.kwargs) -> SyncTestSocket:
        """``connect`` for a test that is not async. A context manager, which closes it.

        Raises ConnectionRefused when ``connect`` of the socket says so.
        """
        return SyncTestSocket(run(connect(*args, **kwargs)))

    return call


connect_sync = _connect(connect)


class SyncTestSocket:
    """``TestSocket``, for a test that is not async."""

    __test__ = False

    def __init__(self, client: TestSocket) -> None:
        self._client = client

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
        return SyncTestChannel(self, run(self._client.join(topic, payload)))

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
