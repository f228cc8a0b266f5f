"""What is left of a connection that has ended: nothing that the garbage collector has to find."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from channels.testing import WebsocketCommunicator

from phx_protocol import Channel, Socket, event
from phx_protocol.testing import connect
from phx_protocol.transports.websocket.consumer import PhoenixConsumer
from tests.support.asgi_poll_client import Client


class OpenChannel(Channel):
    async def join(self, payload: Any) -> str:
        if payload:
            raise RuntimeError("crash")
        return "ok"

    @event("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("crash")

    @event("unencodable")
    async def unencodable(self, payload: Any) -> Any:
        return "ok", object()

    @event("no reply")
    async def no_reply(self, payload: Any) -> Any:
        return 5


class WatchedSocket(Socket):
    channels = {"room:*": OpenChannel}
    longpoll = True
    max_connection_age = 1000
    seen: ClassVar[list[weakref.ref[Socket]]] = []
    kept: ClassVar[list[Socket]] = []

    def connect(self, params: dict[str, Any]) -> None:
        self.seen.append(weakref.ref(self))
        if "keep" in params:
            self.kept.append(self)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    WatchedSocket.seen, WatchedSocket.kept = [], []
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


async def freed() -> None:
    (socket,) = WatchedSocket.seen
    async with asyncio.timeout(10):
        while socket() is not None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("by_server", [False, True])
async def test_a_websocket_is_freed_when_it_ends(by_server: bool) -> None:
    # not by `connect`, whose scope refers to the connection
    application: Any = PhoenixConsumer.as_asgi(socket=WatchedSocket)
    client = WebsocketCommunicator(application, "/socket/websocket?vsn=2.0.0")
    await client.connect()
    await client.send_json_to(["1", "1", "room:1", "phx_join", {}])
    assert (await client.receive_json_from())[4]["status"] == "ok"
    if by_server:
        (ref,) = WatchedSocket.seen
        found: Any = ref()
        found.__phx__.close(1013, "closed")
        del found
        assert (await client.receive_output())["code"] == 1013
        await client.wait()
    else:
        await client.disconnect()
    del client
    await freed()


@pytest.mark.parametrize(
    "frame",
    [
        '["1", "2", "room:1", "crash", {"much": "text"}]',
        '["1", "2", "room:1", "unencodable", {"much": "text"}]',
        '["1", "2", "room:1", "no reply", {"much": "text"}]',
        '["1", "2", "room:1", "phx_join", {"crash": true}]',
        '["1", "2", "room:1"',
        '{"no": "frame"}',
        " ",
    ],
)
async def test_an_error_keeps_neither_the_connection_nor_what_was_handled(
    frame: str,
) -> None:
    """Its traceback leads to both."""
    logging.disable(logging.CRITICAL)  # pytest keeps what is logged, with tracebacks
    application: Any = PhoenixConsumer.as_asgi(socket=WatchedSocket)
    client = WebsocketCommunicator(application, "/socket/websocket?vsn=2.0.0")
    await client.connect()
    await client.send_json_to(["1", "1", "room:1", "phx_join", {}])
    assert (await client.receive_json_from())[4]["status"] == "ok"
    await client.send_to(text_data=frame)
    await client.receive_output()
    await client.disconnect()
    del client
    await freed()


async def test_a_session_of_long_poll_is_freed_when_it_ends() -> None:
    client = Client(WatchedSocket, {"a": "b"})
    await client.open()
    await client.join("room:1")
    (ref,) = WatchedSocket.seen
    found: Any = ref()
    found.__phx__.close(1013, "closed")
    del found
    await freed()


async def test_a_socket_that_is_kept_sends_nothing_more() -> None:
    socket = await connect(WatchedSocket, {"keep": "1"})
    await socket.close()
    (kept,) = WatchedSocket.kept
    await kept.push_to("room:1", "event", {})
    assert (await kept.aget_user()).is_anonymous
    assert kept.params["keep"] == "1"
