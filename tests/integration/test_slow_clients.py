"""A client that does not read is closed with 1013, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from tests import servers
from tests.client import Client

PAYLOAD = "x" * 65_000


class Stalled:
    """A connection that joins, and reads no more than the handshake until it is told to."""

    def __init__(self, port: int, user_id: str, topic: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(
            f"GET /socket/websocket?vsn=2.0.0&user_id={user_id} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        text = json.dumps(["1", "1", topic, "phx_join", {}]).encode()
        self.socket.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)

    def read_all(self) -> bytes:
        """Everything that still comes, until the server has closed."""
        self.socket.settimeout(20)
        data = b""
        try:
            while chunk := self.socket.recv(1 << 20):
                data += chunk
        except ConnectionResetError:
            pass
        return data


@pytest.mark.parametrize("server", ["uvicorn", "frames", "daphne", "hypercorn"])
async def test_a_stalled_client_is_closed_and_the_others_get_everything(
    server: str, tmp_path: Path
) -> None:
    with servers.serve(
        server, tmp_path / "log", "tests.integration.asgi:application"
    ) as running:
        async with Client(running.url) as log, Client(running.url) as good:
            await log.join("audit:log")
            await good.join("room:slow")
            stalled = Stalled(running.port, "stalled", "room:slow")

            async def read_once_it_was_closed() -> bytes:
                assert (await log.until("left"))["user_id"] == "stalled"
                return await asyncio.to_thread(stalled.read_all)

            closing = asyncio.create_task(read_once_it_was_closed())
            for i in range(200):
                await good.push("room:slow", "shout", {"i": i, "x": PAYLOAD})
                assert (await good.until("shout"))["i"] == i
            # the close frame is the last thing that it reads, when it reads before the abort
            assert (await closing)[-4:] == b"\x88\x02" + (1013).to_bytes(2, "big")
            assert await good.ask("room:slow", "echo") == ("ok", {})
        assert "does not take what it is sent" in running.logged()
