"""connect_sync(): the same client for tests that are not async, in the test's own thread."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync

from ..socket import Socket
from .clients import TestChannel, TestSocket, connect

Result = TypeVar("Result")


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


def connect_sync(
    socket_class: type[Socket] = Socket,
    params: dict[str, Any] | None = None,
    *,
    user: Any = None,
    session: Any = None,
    auth_token: str | None = None,
    headers: dict[str, str] | None = None,
) -> SyncTestSocket:
    """``connect`` for a test that is not async. A context manager, which closes it.

    Raises ConnectionRefused when ``connect`` of the socket says so.
    """
    connecting = connect(
        socket_class,
        params,
        user=user,
        session=session,
        auth_token=auth_token,
        headers=headers,
    )
    return SyncTestSocket(run(connecting))


class SyncTestSocket:
    """``TestSocket``, for a test that is not async."""

    __test__ = False

    def __init__(self, socket: TestSocket) -> None:
        self._socket = socket

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

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
        return SyncTestChannel(self, run(self._socket.join(topic, payload)))

    def send(self, frame: list[Any]) -> None:
        """As ``TestSocket.send``."""
        run(self._socket.send(frame))

    def close(self) -> None:
        """As ``TestSocket.close``."""
        run(self._socket.close())

    def disconnect(self) -> None:
        """As ``TestSocket.disconnect``."""
        run(self._socket.disconnect())

    def settled(self) -> None:
        """As ``TestSocket.settled``."""
        run(self._socket.settled())

    def assert_closed(self, code: int) -> None:
        """As ``TestSocket.assert_closed``."""
        run(self._socket.assert_closed(code))


class SyncTestChannel:
    """``TestChannel``, for a test that is not async."""

    __test__ = False

    def __init__(self, socket: SyncTestSocket, channel: TestChannel) -> None:
        self.socket = socket
        self._channel = channel
        self.topic = channel.topic
        self.reply = channel.reply

    def push(self, event: str, payload: Any = None) -> str:
        """As ``TestChannel.push``."""
        return run(self._channel.push(event, payload))

    def assert_reply(self, ref: str, status: str, payload: Any = ...) -> Any:
        """As ``TestChannel.assert_reply``."""
        return run(self._channel.assert_reply(ref, status, payload))

    def refute_reply(self, ref: str, status: Any = ..., payload: Any = ...) -> None:
        """As ``TestChannel.refute_reply``."""
        run(self._channel.refute_reply(ref, status, payload))

    def assert_push(self, event: str, payload: Any = ...) -> Any:
        """As ``TestChannel.assert_push``."""
        return run(self._channel.assert_push(event, payload))

    def refute_push(self, event: str, payload: Any = ...) -> None:
        """As ``TestChannel.refute_push``."""
        run(self._channel.refute_push(event, payload))

    def assert_broadcast(self, event: str, payload: Any = ...) -> Any:
        """As ``TestChannel.assert_broadcast``."""
        return run(self._channel.assert_broadcast(event, payload))

    def refute_broadcast(self, event: str, payload: Any = ...) -> None:
        """As ``TestChannel.refute_broadcast``."""
        run(self._channel.refute_broadcast(event, payload))

    def assert_ended(self, crashed: bool = False) -> None:
        """As ``TestChannel.assert_ended``."""
        run(self._channel.assert_ended(crashed))

    def leave(self) -> None:
        """As ``TestChannel.leave``."""
        run(self._channel.leave())

    def close(self) -> None:
        """As ``TestChannel.close``."""
        run(self._channel.close())
