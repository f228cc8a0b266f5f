"""The checks of a request before connect: TLS, and the subprotocols that it offers."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import override_settings

from phx_protocol import (
    ConnectionRefused,
    LongPollConsumer,
    PhoenixConsumer,
    Socket,
)

TOKEN = "base64url.bearer.phx." + base64.b64encode(b"secret").decode().rstrip("=")
PROTO = override_settings(
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
)
redirected = override_settings(SECURE_SSL_REDIRECT=True)


class PolledSocket(Socket):
    longpoll = True


def scope_of(kind: str, **changes: Any) -> dict[str, Any]:
    """A request over `kind` of which nobody says the scheme."""
    return {
        "type": kind,
        "path": "/socket/websocket" if kind == "websocket" else "/socket/longpoll",
        "query_string": b"vsn=2.0.0&a=%C3%A4",
        "headers": [(b"host", b"example.com")],
        "extensions": {"websocket.http.response": {}},
        **({"method": "GET"} if kind == "http" else {}),
        **changes,
    }


async def answer(
    scope: dict[str, Any], socket: type[Socket] = PolledSocket
) -> dict[str, Any]:
    """The first message that the server gets for a request."""
    is_socket = scope["type"] == "websocket"
    consumer: Any = PhoenixConsumer if is_socket else LongPollConsumer
    request = ApplicationCommunicator(consumer.as_asgi(socket=socket), scope)
    first = {"type": "websocket.connect" if is_socket else "http.request"}
    await request.send_input(first)
    answer: dict[str, Any] = await request.receive_output()
    if answer["type"] == "websocket.accept":
        await request.send_input({"type": "websocket.disconnect", "code": 1000})
    return answer


def location(answer: dict[str, Any]) -> str:
    return dict(answer["headers"])[b"location"].decode()  # type: ignore[no-any-return]


# --------------------------------------------------------------------------- TLS


@redirected
@pytest.mark.parametrize(
    "kind, method, status",
    [
        ("websocket", None, 301),
        ("http", "GET", 301),
        ("http", "POST", 307),
        ("http", "OPTIONS", 307),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_request_over_http_is_redirected(
    kind: str, method: str | None, status: int, scheme: str
) -> None:
    scope = scope_of(kind, scheme=scheme, **({"method": method} if method else {}))
    redirect = await answer(scope)
    assert redirect["status"] == status
    path = f"{scope['path']}?vsn=2.0.0&a=%C3%A4"
    assert location(redirect) == f"https://example.com{path}"
    with override_settings(SECURE_SSL_HOST="secure.example.com"):
        assert location(await answer(scope)) == f"https://secure.example.com{path}"
    with override_settings(SECURE_SSL_REDIRECT=False):
        assert (await answer(scope)).get("status") != status


def is_open(answer: dict[str, Any]) -> bool:
    return answer["type"] == "websocket.accept" or answer.get("status") == 200


@redirected
@pytest.mark.parametrize("kind", ["websocket", "http"])
@pytest.mark.parametrize("scheme", ["https", "wss", None])
async def test_a_request_over_https_or_of_unknown_scheme_passes(
    kind: str, scheme: str | None
) -> None:
    scope = scope_of(kind, **({"scheme": scheme} if scheme else {}))
    assert is_open(await answer(scope))


@redirected
@PROTO
@pytest.mark.parametrize("kind", ["websocket", "http"])
@pytest.mark.parametrize(
    "proto, is_secure", [("https", True), ("wss", True), ("http", False), ("ws", False)]
)
@pytest.mark.parametrize("scheme", ["http", "https", None])
async def test_the_scheme_of_the_proxy_counts(
    kind: str, proto: str, is_secure: bool, scheme: str | None
) -> None:
    headers = [(b"host", b"example.com"), (b"x-forwarded-proto", proto.encode())]
    scope = scope_of(kind, headers=headers, **({"scheme": scheme} if scheme else {}))
    assert is_open(await answer(scope)) is is_secure


@redirected
@override_settings(SECURE_REDIRECT_EXEMPT=[r"^socket/"])
@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_path_that_is_exempt_is_let_in_over_http(kind: str) -> None:
    assert is_open(await answer(scope_of(kind, scheme="http")))
    elsewhere = scope_of(kind, scheme="http", path="/live/websocket")
    assert not is_open(await answer(elsewhere))


@redirected
async def test_a_server_that_can_say_nothing_else_answers_403() -> None:
    scope = scope_of("websocket", scheme="ws", extensions={})
    assert (await answer(scope))["type"] == "websocket.close"


@redirected
@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_host_that_is_not_ours_is_redirected_to_nowhere(kind: str) -> None:
    scope = scope_of(kind, scheme="http", headers=[(b"host", b"evil.test")])
    refused = await answer(scope)
    assert refused["status"] == 400
    assert b"location" not in dict(refused["headers"])


class MovedSocket(Socket):
    longpoll = True

    async def connect(self, params: dict[str, Any]) -> None:
        raise ConnectionRefused(302, headers={"Location": "https://elsewhere.test/"})


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_redirect_of_connect_is_one_over_every_transport(kind: str) -> None:
    moved = await answer(scope_of(kind), MovedSocket)
    assert (moved["status"], location(moved)) == (302, "https://elsewhere.test/")


# ------------------------------------------------------------------ subprotocols


class ListedSocket(Socket):
    subprotocols = ["chat.v2", "chat.v1"]


class StrictSocket(Socket):
    subprotocols: Any = ()


@pytest.mark.parametrize(
    "socket, offered, accepted",
    [
        # as ever: nothing is looked at
        (Socket, [], None),
        (Socket, ["mqtt"], None),
        (Socket, ["phoenix"], None),
        (Socket, ["phoenix", TOKEN], "phoenix"),
        # servers and clients fail on one that was not offered
        (Socket, [TOKEN], None),
        (Socket, ["mqtt", TOKEN], None),
        (ListedSocket, [TOKEN], None),
        (ListedSocket, [], None),
        (ListedSocket, ["chat.v1"], "chat.v1"),
        # the client says what it likes best
        (ListedSocket, ["mqtt", "chat.v1", "chat.v2"], "chat.v1"),
        (ListedSocket, ["phoenix", TOKEN, "chat.v2"], "chat.v2"),
        (ListedSocket, ["phoenix", TOKEN], "phoenix"),
        (ListedSocket, ["phoenix"], "phoenix"),
        (ListedSocket, ["mqtt", "phoenix"], "phoenix"),
        (StrictSocket, ["phoenix", TOKEN], "phoenix"),
        (StrictSocket, [], None),
    ],
)
async def test_a_subprotocol_that_client_and_list_have_is_accepted(
    socket: type[Socket], offered: list[str], accepted: str | None
) -> None:
    accept = await answer(scope_of("websocket", subprotocols=offered), socket)
    assert accept["type"] == "websocket.accept"
    assert accept.get("subprotocol") == accepted


@pytest.mark.parametrize(
    "socket, offered",
    [
        (ListedSocket, ["mqtt"]),
        (ListedSocket, ["chat.v"]),
        (ListedSocket, ["CHAT.V1"]),
        (StrictSocket, ["mqtt"]),
    ],
)
async def test_a_client_that_offers_only_other_subprotocols_is_refused(
    socket: type[Socket], offered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    # 403 with nothing to say is what every server makes of a close
    refused = await answer(scope_of("websocket", subprotocols=offered), socket)
    assert refused["type"] == "websocket.close"
    assert "is in SUBPROTOCOLS" in caplog.text


@override_settings(PHX_PROTOCOL={"SUBPROTOCOLS": ["chat.v1"]})
async def test_the_setting_holds_for_a_socket_that_says_nothing() -> None:
    accept = await answer(scope_of("websocket", subprotocols=["chat.v1"]), Socket)
    assert accept["subprotocol"] == "chat.v1"
