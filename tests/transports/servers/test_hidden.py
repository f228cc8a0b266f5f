"""Middleware that hides the server is named in the log, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol.transports.servers import adapter_for, hidden


@pytest.mark.parametrize(
    "scope, lines", [({}, 0), ({"asgi": {"version": "3.0"}}, 1)], ids=["test", "server"]
)
def test_a_queue_is_a_test_s_unless_a_server_made_the_scope(
    scope: dict[str, Any], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    put = asyncio.Queue[Any]().put

    async def send(message: Any) -> None:
        await put(message)

    hidden._say_once.cache_clear()
    adapter_for({"type": "websocket", **scope}, send)
    assert caplog.text.count("middleware hides the ASGI server") == lines
