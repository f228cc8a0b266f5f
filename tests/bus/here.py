"""The bus of this process, for tests."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from phx_protocol.bus.bus import Bus
from tests.support.ws_client import TIMEOUT


class Here:
    """The bus of this process."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.is_behind = False
        self.bus = Bus(self.take, carries=True, is_behind=lambda: self.is_behind)

    def take(self, message: Any) -> None:
        if message.get("n") == "refused":
            raise ValueError("this one is bad")
        self.heard.put_nowait(message)

    async def hears(self) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await self.heard.get()


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    one = Here()
    await one.bus.open(serves=True)
    yield one
    await one.bus.close()


async def send(here: Here, message: Any, address: str | None = None) -> None:
    sent = here.bus.send(message, address)
    if sent is not None:
        await sent


async def connected(here: Here, count: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        while len(here.bus._peers) != count:
            await asyncio.sleep(0.01)


def bytes_of(message: Any) -> bytes:
    data = msgspec.msgpack.encode(message)
    return struct.pack("!I", len(data)) + data


def stranger(here: Here) -> socket.socket:
    assert here.bus.address is not None
    own = socket.socket(socket.AF_UNIX)
    own.connect(here.bus.address)
    return own
