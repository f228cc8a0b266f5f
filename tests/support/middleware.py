"""Middleware behind which no ASGI server can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[Any], Awaitable[None]]


def hidden(app: Any) -> Any:
    """A wrapper behind which nothing can be seen: another task does the sending."""

    async def application(scope: dict[str, Any], receive: Any, send: Send) -> None:
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def hiding(message: Any) -> None:
            messages.put_nowait(message)

        running = asyncio.create_task(app(scope, receive, hiding))
        while not (running.done() and messages.empty()):
            message = asyncio.ensure_future(messages.get())
            await asyncio.wait({running, message}, return_when="FIRST_COMPLETED")
            if message.done():
                await send(message.result())
            else:
                message.cancel()

    return application
