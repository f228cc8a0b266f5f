"""ASGI's lifespan: drain the sockets when the process ends, and run another application's lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..concurrency import garbage
from ..logs import get_logger
from ..node.node import get_node
from .http import Receive, Send

Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

logger = get_logger("phx_protocol.transport")


async def lifespan(
    other: Application | None, scope: dict[str, Any], receive: Receive, send: Send
) -> None:
    """Answer the events of ASGI's lifespan, with the answers of `other` if there is one.

    At shutdown the sockets end first: their callbacks may need what `other` has open.
    """
    others = OtherLifespan(other, scope)
    try:
        while True:
            event = await receive()
            is_end = event["type"] == "lifespan.shutdown"
            if is_end:
                await _end_sockets()
            answer = await others.answer_to(event)
            if event["type"] == "lifespan.startup":
                garbage.settle()
            await send(answer)
            if is_end or answer["type"].endswith(".failed"):
                return
    finally:
        others.cancel()


async def _end_sockets() -> None:
    node = get_node()
    await node.drainer.drain_now()  # nothing to do if a signal has started the drain before
    await node.close()  # so other nodes need not wait until its lease ends


class OtherLifespan:
    """The lifespan of another application: it gets the events one after the other.

    An application that raises or returns without an answer has no lifespan, says ASGI. Then
    the answer is "complete".
    """

    def __init__(self, application: Application | None, scope: dict[str, Any]) -> None:
        self._application = application
        self._scope = scope
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._event = ""

    async def answer_to(self, event: dict[str, Any]) -> dict[str, Any]:
        self._event = event["type"]
        self._answer = asyncio.get_running_loop().create_future()
        if self._task is None and self._application is not None:
            self._task = asyncio.ensure_future(self._run(self._application))
            self._task.add_done_callback(self._ended)
        if self._task is None or self._task.done():
            return {"type": f"{self._event}.complete"}
        self._events.put_nowait(event)
        answer: dict[str, Any] = await self._answer
        return answer

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, application: Application) -> None:
        await application(self._scope, self._events.get, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        if not message["type"].startswith(self._event):
            raise ValueError(f"{self._event} is not answered by {message['type']!r}")
        if not self._answer.done():
            self._answer.set_result(message)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self._answer.done():
            if error is not None:
                logger.info("the other application has no lifespan: %r", error)
            self._answer.set_result({"type": f"{self._event}.complete"})
        elif error is not None and not self._has_failed():
            logger.error(
                "the lifespan of the other application crashed", exc_info=error
            )

    def _has_failed(self) -> bool:
        """Return whether the application has answered "failed", so that the server knows it."""
        return bool(self._answer.result()["type"].endswith(".failed"))
