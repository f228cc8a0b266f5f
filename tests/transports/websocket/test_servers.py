"""Whose ``send`` it is, below all that is wrapped around it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from asgiref.sync import sync_to_async
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from phx_protocol.transports.websocket import servers
from phx_protocol.transports.websocket.servers import (
    UvicornAdapter,
    adapter_for,
    server_object,
)


def connection(port: int) -> RequestResponseCycle:
    """uvicorn's own object, of a connection that is not there."""
    cycle = object.__new__(RequestResponseCycle)
    cycle.scope = {"type": "http", "headers": [], "client": ("127.0.0.1", port)}  # type: ignore[typeddict-item]
    cycle.transport = asyncio.Transport()
    return cycle


def closure(send: Any) -> Any:
    async def wrapped(message: Any) -> None:
        await send(message)

    return wrapped


def default(send: Any) -> Any:
    return lambda message, *, send=send: send(message)


@functools.singledispatch
async def _call(send: Any, message: Any) -> None:
    await send(message)


class Instance:
    __slots__ = ("_inner",)

    def __init__(self, send: Any) -> None:
        self._inner = send

    async def __call__(self, message: Any) -> None:
        await self._inner(message)

    async def send(self, message: Any) -> None:
        await self._inner(message)


def decorated(send: Any) -> Any:
    table = {0: send}  # out of sight, but for what wraps says

    @functools.wraps(send)
    async def wrapped(message: Any) -> None:
        await table[0](message)

    return wrapped


def counting(send: Any) -> Any:
    """What wrappers have at hand of asyncio and asgiref says nothing of the server."""
    put, save = asyncio.Queue[Any]().put_nowait, sync_to_async(len)

    async def wrapped(message: Any, sleep: Any = asyncio.sleep) -> None:
        put(await save(message))
        await sleep(0)
        await send(message)

    return wrapped


WRAPPERS: list[Callable[[Any], Any]] = [
    counting,
    closure,
    default,
    Instance,
    lambda send: Instance(send).send,
    lambda send: functools.partial(_call, send),
    decorated,
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_server_is_seen_through_whatever_calls_its_send(wrap: Any) -> None:
    cycle = connection(1)
    assert server_object(dict(cycle.scope), wrap(cycle.send)) == (cycle, True)


def test_the_server_is_seen_through_many_of_them() -> None:
    cycle = connection(1)
    send: Any = cycle.send
    for wrap in WRAPPERS * 2:
        send = wrap(send)
    # a scope of which a middleware has replaced this and that
    scope = {**cycle.scope, "headers": [(b"a", b"b")]}
    assert server_object(scope, send) == (cycle, True)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_connection_of_another_is_never_taken_for_ours(wrap: Any) -> None:
    ours, other = connection(1), connection(1)
    assert server_object(dict(ours.scope), wrap(other.send)) == (None, True)

    theirs, mine = wrap(other.send), wrap(ours.send)

    async def tee(message: Any) -> None:
        await theirs(message)
        await mine(message)

    assert server_object(dict(ours.scope), tee) == (ours, True)


def test_a_wrapper_without_an_end_is_left_alone() -> None:
    async def send(message: Any) -> None:
        await again(message)

    again = send
    many = [closure(send) for _ in range(1000)]
    for one in many:
        one.__defaults__ = tuple(many)
    assert server_object({}, many[0]) == (None, True)
    assert adapter_for({"type": "websocket"}, many[0]).buffered_bytes() == 0


@pytest.mark.parametrize(
    "scope, lines", [({}, 0), ({"asgi": {"version": "3.0"}}, 1)], ids=["test", "server"]
)
def test_a_queue_is_a_test_s_unless_a_server_made_the_scope(
    scope: dict[str, Any], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    servers._say_once.cache_clear()
    adapter_for({"type": "websocket", **scope}, closure(asyncio.Queue[Any]().put))
    assert caplog.text.count("middleware hides the ASGI server") == lines


# ------------------------------------------------------------ reading in steps


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
def test_a_flood_is_read_in_steps_and_what_follows_it_as_ever(run: Any) -> None:
    largest, ratio = run(_stepped_and_given_back())
    assert largest < 60_000
    assert ratio < 100  # it was many thousand
