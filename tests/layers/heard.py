"""A listener of a channel, which keeps what it hears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from phx_protocol.layers import DirectChannel, RedisLayer


class Heard:
    """What a channel of a layer hears, as it arrives."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.errors: list[str] = []
        self.returns = 0
        self.channel: DirectChannel | None = None
        self._changed = asyncio.Event()

    def take(self, message: Any) -> None:
        self.messages.append(message)
        self._changed.set()

    def disconnected(self, error: Exception) -> None:
        self.errors.append(str(error))
        self._changed.set()

    def reconnected(self) -> None:
        self.returns += 1
        self._changed.set()

    async def until(self, wanted: Callable[[], Any], seconds: float = 20) -> None:
        """Wait until `wanted` is true, as it may be after something was heard."""
        async with asyncio.timeout(seconds):
            while not wanted():
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def listening(
    *hosts: Any, group: str = "room", **options: Any
) -> AsyncIterator[tuple[RedisLayer, Heard]]:
    """A layer with a channel in `group`, and what this channel hears."""
    layer, heard = RedisLayer([*hosts], **options), Heard()
    channel = await layer.new_channel()
    heard.channel = layer.deliver_to(channel, heard)
    await layer.group_add(group, channel)
    try:
        yield layer, heard
    finally:
        await layer.flush()
