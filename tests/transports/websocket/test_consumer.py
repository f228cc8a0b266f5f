"""A WebSocket that carries a socket: how it is refused, accepted and closed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator

from phx_protocol import ConnectionRefused, PhoenixConsumer
from phx_protocol.testing import connect
from tests.socket.echo import EchoSocket


async def test_a_refusal_is_an_http_answer() -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(EchoSocket, {"status": "429"})
    assert (refused.value.status, refused.value.reason) == (429, "go away")
    assert refused.value.headers["retry-after"] == "60"


async def test_a_crash_in_connect_is_a_500_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(EchoSocket, {"crash": "1"})
    assert refused.value.status == 500
    assert "EchoSocket.connect crashed" in caplog.text


@pytest.mark.parametrize("vsn", ["2", "2.1.0", "3.0.0"])
async def test_a_version_nobody_speaks_is_refused(vsn: str) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(EchoSocket, {"vsn": vsn})
    assert refused.value.status == 403


async def test_an_idle_socket_is_closed_with_1002() -> None:
    class IdleSocket(EchoSocket):
        timeout = 0.1

    socket = await connect(IdleSocket)
    await socket.assert_closed(1002)
    await socket.close()


def encoded(token: str) -> str:
    return "base64url.bearer.phx." + base64.b64encode(token.encode()).decode().rstrip(
        "="
    )


@pytest.mark.parametrize(
    "subprotocols, token, answer",
    [
        (["phoenix"], None, None),
        (["phoenix", encoded("a:token-of.mine")], "a:token-of.mine", "phoenix"),
        (
            ["phoenix", encoded("a?>~").replace("/", "_").replace("+", "-")],
            "a?>~",
            "phoenix",
        ),
        (["phoenix", encoded("a"), encoded("b")], None, None),
    ],
)
async def test_the_auth_token_comes_as_a_subprotocol(
    subprotocols: list[str], token: str | None, answer: str | None
) -> None:
    tokens: list[str | None] = []

    class TokenSocket(EchoSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            tokens.append(self.auth_token)

    application = PhoenixConsumer.as_asgi(socket=TokenSocket)
    communicator = WebsocketCommunicator(
        application, "/socket/websocket", subprotocols=subprotocols
    )
    assert await communicator.connect() == (True, answer)
    assert tokens == [token]
    await communicator.disconnect()
