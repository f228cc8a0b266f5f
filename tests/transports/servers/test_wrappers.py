"""The server's own object is found behind whatever middleware wraps around its ``send``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from phx_protocol.transports.servers import adapter_for
from phx_protocol.transports.servers.wrappers import server_object


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
    """Objects of asyncio and asgiref in wrappers do not name the server."""
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
