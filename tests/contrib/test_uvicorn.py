"""uvicorn with our protocol class: what comes is taken at once, in the order in which it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from phx_protocol.contrib.uvicorn import Inbox
from tests.support import servers
from tests.support.ws_client import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.serve("frames", tmp_path_factory.mktemp("uvicorn") / "log") as server:
        yield server


def wire(data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def echo(ref: int) -> bytes:
    return json.dumps(["1", str(ref), "room:a", "echo", {}]).encode()


async def replies(client: Client, count: int) -> list[int]:
    return [int((await client.receive())[1]) for _ in range(count)]


async def test_frames_of_one_segment_are_answered_in_their_order(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        await client.join("room:a")
        for count in (
            1,
            2,
            15,
            16,
            17,
            300,
        ):  # more than is taken in a turn, and a flood
            refs = list(range(100, 100 + count))
            client.ws.transport.write(b"".join(wire(echo(ref)) for ref in refs))
            assert await replies(client, count) == refs


async def test_messages_that_arrive_in_pieces_keep_their_order(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        await client.join("room:a")
        half = len(echo(2)) // 2
        client.ws.transport.write(
            wire(echo(1))
            + wire(echo(2)[:half], fin=False)
            + wire(echo(2)[half:], Opcode.CONT)
            + wire(echo(3))
        )
        assert await replies(client, 3) == [1, 2, 3]


@pytest.mark.parametrize(("data", "code"), [(b"\xff", 1007), (b"no json", 1011)])
async def test_data_that_is_not_a_frame_closes_only_its_own_connection(
    server: servers.Server, data: bytes, code: int
) -> None:
    async with Client(server.url) as bad, Client(server.url) as good:
        await good.join("room:a")
        bad.ws.transport.write(wire(data) + wire(data))
        with pytest.raises(ConnectionClosed):
            while True:
                await bad.receive()
        assert bad.ws.close_code == code
        assert await good.ask("room:a", "echo", {"n": 1}) == ("ok", {"n": 1})


async def test_an_inbox_gives_out_messages_in_order() -> None:
    inbox, got = Inbox(), []

    async def take() -> None:
        got.append(await inbox.get())

    waiting = [asyncio.create_task(take()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    inbox.put_nowait(1)
    inbox.put_nowait(2)
    inbox.put_nowait(3)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert got == [1, 2] and not inbox.empty()
    assert await inbox.get() == 3
    assert inbox.empty()


async def test_a_cancelled_wait_loses_no_message() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait("kept")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not inbox.empty() and await inbox.get() == "kept"
