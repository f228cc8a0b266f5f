"""A connection to uvicorn's WebSocket classes without a network: bytes go in, bytes and a scope come out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from phx_protocol.transports.servers.uvicorn import RAW_TRANSPORT

Application = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS = {
    b"host": b"a",
    b"connection": b"Upgrade",
    b"upgrade": b"websocket",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}


def request(
    changes: dict[bytes, bytes | None] | None = None,
    line: bytes = b"GET /a?b=c HTTP/1.1",
    more: bytes = b"",
) -> bytes:
    """A handshake as uvicorn's HTTP parser hands it on; `changes` replace headers, or drop them (None)."""
    headers = {**HEADERS, **(changes or {})}
    lines = [b"%b: %b\r\n" % (n, v) for n, v in headers.items() if v is not None]
    return line + b"\r\n" + b"".join(lines) + more + b"\r\n"


class Transport(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Talk:
    """A protocol object of the class `kind` below `application`; `options` are those of uvicorn."""

    def __init__(
        self, kind: type[Any], application: Application, **options: Any
    ) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.transport = Transport()

        async def recording(scope: Any, receive: Any, send: Any) -> None:
            self.scopes.append(scope)
            await application(scope, receive, send)

        defaults = {"ws_per_message_deflate": False, "ws_ping_interval": None}
        config = Config(recording, ws=kind, log_config=None, **{**defaults, **options})
        config.load()
        state = ServerState()
        state.default_headers = [(b"server", b"test")]
        self.state = state
        self.protocol = kind(config=config, server_state=state, app_state={"mine": 1})
        self.protocol.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)

    async def settle(self) -> None:
        """Wait until the application waits for the client, or has ended."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Drop the connection, and wait for the end of the application."""
        self.protocol.connection_lost(None)
        await asyncio.gather(*self.state.tasks)

    def scope(self) -> dict[str, Any] | None:
        """The scope of the application, without what our class adds; None if it was not run."""
        if not self.scopes:
            return None
        (scope,) = self.scopes
        state = {k: v for k, v in scope["state"].items() if k != RAW_TRANSPORT}
        return {**scope, "state": state}

    def answer(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """The status line, the headers without the date, and what follows."""
        head, _, rest = self.transport.written.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        headers.pop(b"date", None)
        return status, headers, rest
