"""A message in many frames, and a handshake with a header too long, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.integration.asgi:application"
#: MAX_FRAME_SIZE of the socket
LIMIT = 200_000


def part(opcode: int, payload: bytes, fin: bool = False) -> bytes:
    """A frame, masked with zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes(((0x80 if fin else 0) | opcode,)) + length + bytes(4) + payload


@pytest.fixture(scope="module", params=["uvicorn", "frames", "daphne"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("limits") / "log"
    with servers.serve(request.param, log, APPLICATION) as running:
        yield running


async def test_a_message_in_many_frames_is_limited_as_a_whole(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        assert await client.join("room:a") == ("ok", {})
        client.ws.transport.write(part(1, b"["))
        for _ in range(LIMIT // 10_000 + 1):
            client.ws.transport.write(part(0, b"x" * 10_000))
        # autobahn drops the connection
        assert await client.closed() in (1009, 1006)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_message_in_many_small_frames_arrives(
    server: servers.Server, size: int
) -> None:
    text = b'["1","7","room:a","echo",{"x":"%s"}]' % (b"y" * 9000)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    async with Client(server.url) as client:
        client.join_refs["room:a"] = "1"
        ref = await client.send("room:a", "phx_join", {}, "1")
        assert ref == "1" and (await client.reply("1"))[0] == "ok"
        frames = [part(0, piece) for piece in pieces[1:]]
        client.ws.transport.write(part(1, pieces[0]) + b"".join(frames))
        client.ws.transport.write(part(0, b"", fin=True))
        assert await client.reply("7") == ("ok", {"x": "y" * 9000})


async def test_our_uvicorn_class_answers_a_handshake_with_a_header_too_long(
    tmp_path: Path,
) -> None:
    with servers.serve("frames", tmp_path / "log", APPLICATION) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            b"GET /socket/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nCookie: a=%s\r\n\r\n" % (b"x" * 10_000)
        )
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()
