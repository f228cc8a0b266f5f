"""uvicorn reads a flood in small steps and a closed client slowly, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from phx_protocol.transports.servers.uvicorn import UvicornAdapter
from tests.support.certificates import certify


class Reader(asyncio.Protocol):
    """Counts what it reads, on a connection of its own."""

    def __init__(self) -> None:
        self.transport: Any = None
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


R = TypeVar("R", bound=Reader)


async def connected(
    reader: R,
    tls: ssl.SSLContext | None = None,
    trusting: ssl.SSLContext | None = None,
) -> tuple[R, asyncio.StreamWriter, asyncio.Server]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: reader, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    _, client = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    await reader.made.wait()
    return reader, client, server


async def _stepped_and_given_back() -> tuple[int, float]:
    """The largest read in steps, and how much slower what comes afterwards is."""
    plain, its_client, one = await connected(Reader())
    usual = await plain.seconds_for(1_000_000, its_client)
    reader, client, two = await connected(Reader())
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


class Parser(Reader):
    """One that needs a millisecond for what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0.0
        self.reads = 0

    def data_received(self, data: bytes) -> None:
        started = time.thread_time()
        while time.thread_time() < started + 0.001:
            pass
        self.spent += time.thread_time() - started
        self.reads += 1
        super().data_received(data)


async def _share_of_a_client_that_sends_on(is_closed: bool) -> float:
    """The part of the loop's time that is spent on a client that sends without end."""
    parser, client, server = await connected(Parser())
    adapter = UvicornAdapter(_nowhere, parser)
    if is_closed:
        await adapter.close(1013, 5)
    spent, started = parser.spent, time.perf_counter()
    while parser.reads < 20:
        client.write(b"x" * 65536)
        await asyncio.sleep(0)
    share = (parser.spent - spent) / (time.perf_counter() - started)
    for end in (client, server):
        end.close()
    return share


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_client_that_sends_on_after_our_close_frame_gets_little_of_the_loop(
    run: Any,
) -> None:
    assert run(_share_of_a_client_that_sends_on(is_closed=False)) > 0.2
    assert run(_share_of_a_client_that_sends_on(is_closed=True)) < 0.1


async def _closed_while_it_pauses() -> list[Any]:
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    parser, client, server = await connected(Parser())
    await UvicornAdapter(_nowhere, parser).close(1013, 5)
    client.write(b"x")
    await parser.changed.wait()
    parser.transport.abort()
    await asyncio.sleep(0.1)  # longer than its pause
    for end in (client, server):
        end.close()
    return errors


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_that_goes_while_it_is_read_slowly_raises_nothing(
    run: Any,
) -> None:
    assert run(_closed_while_it_pauses()) == []


async def _gone_while_nothing_is_read() -> list[bool]:
    reader, client, server = await connected(Reader())
    adapter = UvicornAdapter(_nowhere, reader)
    reader.transport.pause_reading()
    client.write(b"x" * 1000)
    await client.drain()
    seen = [adapter.is_gone()]
    client.close()
    await client.wait_closed()
    async with asyncio.timeout(5):
        while not adapter.is_gone():
            await asyncio.sleep(0.001)
    server.close()
    reader.transport.abort()
    await asyncio.sleep(0)
    return [*seen, adapter.is_gone()]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_client_that_has_gone_is_known_though_nothing_is_read(run: Any) -> None:
    assert run(_gone_while_nothing_is_read()) == [False, True]


async def _closed_twice(directory: Path) -> tuple[int, bool]:
    certify(directory)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    trusting = ssl.create_default_context(cafile=directory / "cert.pem")
    reader, client, server = await connected(Reader(), tls, trusting)
    adapter = UvicornAdapter(_nowhere, reader)
    for _ in range(
        2
    ):  # as uvicorn does it: at the close frame, and when the connection is lost
        reader.transport.close()
    found = adapter.buffered_bytes(), adapter.is_gone()
    adapter.abort()
    for end in (client, server):
        end.close()
    return found


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_with_tls_that_is_closed_twice_keeps_nothing(
    run: Any, tmp_path: Path
) -> None:
    assert run(_closed_twice(tmp_path)) == (0, True)
