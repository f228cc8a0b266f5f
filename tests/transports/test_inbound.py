"""When a client has to wait for the others, and when no longer; what of a frame is too much."""

from __future__ import annotations

import asyncio
import json
import logging
import types
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator

from phx_protocol import Channel, PhoenixConsumer, Socket, event
from phx_protocol.socket.backlog import Backlog
from phx_protocol.socket.loop_budgets import NEW_BYTES, loop_budgets
from phx_protocol.testing import connect
from phx_protocol.transports.inbound import (
    DIGITS,
    FLOOD,
    FRAMES_PER_TURN,
    ReadPacer,
    in_turn,
)
from phx_protocol.wire.reasons import CloseCode


async def burst(pacer: ReadPacer, frames: int = FLOOD) -> int:
    """Count how often other tasks ran while so many frames came at once."""
    now = asyncio.get_running_loop().time()
    return sum(pacer.is_over(now) for _ in range(frames))


async def test_a_flood_is_stepped_until_it_is_over_and_again_when_it_is_repeated() -> (
    None
):
    seen: asyncio.Queue[bool] = asyncio.Queue()
    pacer = ReadPacer(asyncio.get_running_loop(), seen.put_nowait)
    for _ in range(2):
        assert await burst(pacer) == FLOOD / FRAMES_PER_TURN
        assert await seen.get() is True
        # while it goes on nothing is given back
        for _ in range(5):
            assert await burst(pacer) == FLOOD
            await asyncio.sleep(0)
        assert await seen.get() is False and seen.empty()


async def test_a_flood_that_goes_on_more_slowly_is_one_still() -> None:
    seen: list[bool] = []
    pacer = ReadPacer(asyncio.get_running_loop(), seen.append)
    await burst(pacer)
    for _ in range(60):
        await burst(pacer, FLOOD // 8)
        await asyncio.sleep(0.01)
    assert seen == [True]


class EchoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload


class EchoSocket(Socket):
    channels = {"room:*": EchoChannel}
    max_frame_size = LIMIT = 64 * 1024


MANY = EchoSocket.LIMIT // 4
V1 = '{"topic":"room:1","event":"echo","ref":"2","payload":{"a":%s}}'

TOO_MANY = f"{MANY} lists and objects"
TOO_LONG = f"{DIGITS} digits in a number"
#: what stands in a frame, and what of that is too much
FRAMES = {
    "lists": ("[%s]" % ",".join(["[]"] * MANY), TOO_MANY),
    "objects": ("[%s]" % ",".join(["{}"] * MANY), TOO_MANY),
    "lists that are not too many": ("[%s]" % ",".join(["[]"] * (MANY - 10)), None),
    "a text of brackets": ('"%s"' % ("[{" * (MANY // 2)), TOO_MANY),
    "a number": ("1" * MANY, TOO_LONG),
    "a number among others": ("[1, %s]" % ("1" * MANY), TOO_LONG),
    "numbers that are not too long": (
        "[%s]" % ",".join(["1" * DIGITS] * (MANY // DIGITS + 1)),
        None,
    ),
    "a text of digits": ('"%s"' % ("0" * MANY), None),
    "records": (
        json.dumps([{"id": n, "name": "Zoë", "at": [1.5, n]} for n in range(1000)]),
        None,
    ),
    "a list that is short": ("[%s]" % ("1" * 2000), None),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_lists_and_long_numbers_beyond_what_a_frame_may_have_close_with_1009(
    name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    value, is_too_much = FRAMES[name]
    caplog.set_level(logging.WARNING, "phx_protocol")
    application = PhoenixConsumer.as_asgi(socket=EchoSocket)
    client = WebsocketCommunicator(application, "/websocket?vsn=1.0.0")
    assert (await client.connect(5))[0]
    await client.send_to('{"topic":"room:1","event":"phx_join","ref":"1","payload":{}}')
    await client.receive_from(5)
    frame = " " + V1 % value
    assert len(frame.encode()) < EchoSocket.LIMIT
    if kind == "text":
        await client.send_to(frame)
    else:
        await client.send_to(bytes_data=frame.encode())
    answer = await client.receive_output(5)
    if is_too_much:
        assert (answer["type"], answer["code"]) == ("websocket.close", 1009)
        assert [record.getMessage() for record in caplog.records] == [
            f"closing a connection with 1009: more than {is_too_much}"
        ]
    else:
        response = json.loads(answer["text"])["payload"]["response"]
        assert response == {"a": json.loads(value)}
    await client.disconnect()


async def test_bytes_that_are_no_json_may_have_any_value() -> None:
    socket = await connect(EchoSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("echo", b"[" * (2 * MANY)), "ok")
    await socket.close()


@pytest.mark.parametrize("text, fits", [("x", True), ("\U0001f600", False)])
async def test_what_waits_of_new_clients_counts_as_the_memory_that_it_takes(
    text: str, fits: bool
) -> None:
    loop_budgets().new_bytes = NEW_BYTES // 2
    client = types.SimpleNamespace(backlog=Backlog())
    async with in_turn(cast(Any, client), text * (NEW_BYTES // 4)) as code:
        assert code == (None if fits else CloseCode.OVERLOADED)
