"""A connection that is asked for: with what, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.urls import path

from phx_protocol import ConnectionRefused, PhoenixConsumer
from phx_protocol.testing import connect
from tests.socket.echo import EchoSocket


async def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(EchoSocket, {f"a{i}": "1" for i in range(6)})
    assert (refused.value.status, refused.value.reason) == (
        400,
        "more than 5 parameters",
    )


async def test_path_converters_are_merged_into_the_params_and_win() -> None:
    router = URLRouter(
        [path("shops/<int:shop>/websocket", PhoenixConsumer.as_asgi(socket=EchoSocket))]
    )
    communicator = WebsocketCommunicator(router, "/shops/5/websocket?shop=9&a[b]=c")
    assert (await communicator.connect())[0]
    await communicator.send_json_to(
        {"topic": "room:1", "event": "phx_join", "payload": {}, "ref": 1}
    )
    reply = (await communicator.receive_json_from())["payload"]["response"]
    assert reply["params"] == {"shop": 5, "a": {"b": "c"}}
    await communicator.disconnect()


async def test_an_id_that_is_no_string_is_the_programmers_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class NumberSocket(EchoSocket):
        def id(self) -> Any:
            return 5

    with pytest.raises(ConnectionRefused):
        await connect(NumberSocket)
    assert "must return a string or None" in caplog.text


async def test_the_transport_log_and_the_connect_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class LoggedSocket(EchoSocket):
        transport_log = "WARNING"

    caplog.set_level("INFO")
    socket = await connect(LoggedSocket, {"token": "secret"})
    await socket.close()
    with pytest.raises(ConnectionRefused):
        await connect(LoggedSocket, {"status": "403", "token": "secret"})
    assert "REFUSED CONNECTION TO LoggedSocket" in caplog.text
    assert "Transport: websocket\n  Serializer: V2JSONSerializer" in caplog.text
    assert "websocket /socket/websocket from" in caplog.text
    assert "CONNECTED TO LoggedSocket" in caplog.text and "secret" not in caplog.text
