"""The way of frames to one client, through what is wrapped around ``send``."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from phx_protocol.transports.servers import ServerAdapter
from phx_protocol.transports.websocket.writer import Writer


async def test_middleware_that_waits_has_one_context_for_each_message() -> None:
    span: ContextVar[str] = ContextVar("span", default="")
    sent: list[str] = []
    both = asyncio.Event()

    async def send(message: Any) -> None:
        token = span.set(message["text"])
        await asyncio.sleep(0)
        sent.append(span.get())
        span.reset(token)  # ValueError in another context
        if len(sent) == 3:
            both.set()

    out = Writer(
        ServerAdapter(send), {"bytes": 9, "hard_bytes": 9, "seconds": 9}, both.set
    )
    for text in ("a", "b"):
        out.write(out.prepare(text))
    assert span.get() == ""  # nothing of it stays with who pushes
    while out.pending_bytes() or len(sent) < 2:
        await asyncio.sleep(0)
    out.write(out.prepare("c"))
    async with asyncio.timeout(20):
        await both.wait()
    assert sent == ["a", "b", "c"] and not out.is_closed
