"""uvicorn reads a flood in small steps, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import uvloop

from phx_protocol.transports.servers.uvicorn import UvicornAdapter


class Reader(asyncio.Protocol):
    """Counts what it reads, on a connection of its own."""

    def __init__(self) -> None:
        self.made = asyncio.Event()
        self.changed = asyncio.Event()
        self.read = 0
        self.largest = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.read += len(data)
        self.largest = max(self.largest, len(data))
        self.changed.set()

    async def seconds_for(self, size: int, client: asyncio.StreamWriter) -> float:
        began, wanted = time.perf_counter(), self.read + size
        client.write(b"x" * size)
        while self.read < wanted:
            self.changed.clear()
            await self.changed.wait()
        return time.perf_counter() - began


async def connected() -> tuple[Reader, asyncio.StreamWriter, asyncio.Server]:
    reader = Reader()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: reader, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, client = await asyncio.open_connection("127.0.0.1", port)
    await reader.made.wait()
    return reader, client, server


async def _stepped_and_given_back() -> tuple[int, float]:
    """The largest read in steps, and how much slower what comes afterwards is."""
    plain, its_client, one = await connected()
    usual = await plain.seconds_for(1_000_000, its_client)
    reader, client, two = await connected()
    adapter_of_it = UvicornAdapter(_nowhere, reader)
    for _ in range(2):
        adapter_of_it.read_in_steps(True)
        reader.largest = 0
        await reader.seconds_for(30_000, client)
        largest = reader.largest
        adapter_of_it.read_in_steps(False)
        await reader.seconds_for(200_000, client)  # the window has grown again by then
    after = min([await reader.seconds_for(1_000_000, client) for _ in range(3)])
    for end in (client, its_client, one, two):
        end.close()
    return largest, after / usual


async def _nowhere(message: Any) -> None:
    pass


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_flood_is_read_in_steps_and_later_frames_as_before(run: Any) -> None:
    largest, ratio = run(_stepped_and_given_back())
    assert largest < 60_000
    assert ratio < 100  # it was many thousand
