"""The writer of frames to one client, with a limit, and without a task unless the client is slow."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import types
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

from ...signals import messages_dropped
from ...wire.messages import Frame
from ..outbound_limit import OutboundLimit
from ..servers import ServerAdapter


@types.coroutine
def finish(steps: Any, yielded: Any) -> Generator[Any, Any, None]:
    """Finish an awaitable that was stepped once by hand and yielded `yielded`."""
    while True:
        try:
            sent = yield yielded
        except BaseException as error:
            if not hasattr(steps, "throw"):
                raise
            step = functools.partial(steps.throw, error)
        else:
            step = (
                functools.partial(steps.send, sent)
                if hasattr(steps, "send")
                else steps.__next__
            )
        try:
            yielded = step()
        except StopIteration:
            return


class Writer:
    """The writer over ASGI: it steps the server's ``send`` by hand, and needs no task for it.

    Only if ``send`` waits, a task finishes it. `limits` limit what waits for the client
    meanwhile: see OutboundLimit.
    """

    __slots__ = (
        "adapter",
        "is_closed",
        "_send",
        "_limits",
        "_limit",
        "_overflowed",
        "_outbound",
        "_waiting",
        "_waiting_bytes",
        "_task",
    )

    def __init__(
        self,
        adapter: ServerAdapter,
        limits: Mapping[str, float],
        overflowed: Callable[[], None],
    ) -> None:
        self.adapter = adapter
        self.is_closed = False
        self._send = adapter.send
        self._limits, self._limit = limits, limits["bytes"]
        self._overflowed = overflowed
        self._outbound: OutboundLimit | None = None  # made for a client that is behind
        self._waiting: deque[dict[str, Any]] | None = None  # an empty one is 0.7 KiB
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def prepare(frame: Frame) -> Any:
        """Return the ASGI message of a frame: one dict for all clients that get it."""
        if isinstance(frame, str):
            return {"type": "websocket.send", "text": frame}
        return {"type": "websocket.send", "bytes": frame}

    def write(self, message: Any) -> None:
        """Send an ASGI message; it waits only if the client is slow."""
        if self.is_closed:
            return
        if self._task is not None:
            self._wait(message)
            return
        # middleware may set and reset context variables: both must happen in one context
        context = contextvars.copy_context() if self.adapter.is_wrapped else None
        try:
            steps = self._send(message).__await__()
            yielded = next(steps) if context is None else context.run(next, steps)
        except StopIteration:
            if not self.adapter.waits and self.adapter.buffered_bytes() > self._limit:
                self._check()
        except Exception:
            # The connection is gone; the server reports that with websocket.disconnect.
            self.is_closed = True
            return
        else:
            self._task = asyncio.get_running_loop().create_task(
                self._drain(finish(steps, yielded)), context=context
            )

    def _wait(self, message: dict[str, Any]) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(message)
        self._waiting_bytes += _size(message)
        if self._waiting_bytes > self._limit:
            self._check()

    def _check(self) -> None:
        """Note that more waits for the client than may wait for long."""
        if self._outbound is None:
            limits, overflowed = self._limits, self._overflowed
            self._outbound = OutboundLimit(limits, self.pending_bytes, overflowed)
        self._outbound.check()

    async def _drain(self, first: Any) -> None:
        try:
            await first
            while self._waiting and not self.is_closed:
                message = self._waiting.popleft()
                self._waiting_bytes -= _size(message)
                await self._send(message)
        except Exception:
            self.is_closed = True
        finally:
            self._task = None

    def pending_bytes(self) -> int:
        """Return the bytes that wait for this client, here and in the server."""
        return self._waiting_bytes + self.adapter.buffered_bytes()

    def stop(self) -> None:
        """Stop writing, and drop the messages that wait."""
        self.is_closed = True
        if dropped := self._dropped():
            messages_dropped.emit(None, count=dropped, where="outbound")
        self._waiting = None
        self._waiting_bytes = 0
        if self._outbound is not None:
            self._outbound.stop()
        self._overflowed = _ignore  # it is a method of this object's owner

    def _dropped(self) -> int:
        """Return how many messages the client will not get.

        Of those in the server's buffer, the ones since the client fell behind are counted.
        """
        outbound, waiting = self._outbound, len(self._waiting or ())
        if outbound is not None and self.adapter.buffered_bytes() > self._limit:
            return outbound.checks + waiting
        return waiting

    async def close(self, code: int, timeout: float) -> None:
        """Send the close frame after what the server has; abort after `timeout` seconds."""
        self.stop()
        try:
            async with asyncio.timeout(timeout):
                if self._task is not None:
                    await asyncio.wait({self._task})
                await self.adapter.close(code, timeout)
        except TimeoutError:
            self.adapter.abort()
        except Exception:
            pass  # the connection has gone before
        finally:
            if self._task is not None:
                self._task.cancel()

    def abort_later(self, timeout: float) -> None:
        """Drop the connection after `timeout` seconds if the client does not read what is left.

        A server that closes waits for that, for ever.
        """
        if self.adapter.buffered_bytes():
            asyncio.get_running_loop().call_later(timeout, self.adapter.abort)


def _ignore() -> None: ...


def _size(message: dict[str, Any]) -> int:
    return len(message.get("text") or message.get("bytes") or "")
