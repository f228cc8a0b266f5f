"""The settings: what a socket says itself comes first."""

from __future__ import annotations

from typing import Any

from django.test import override_settings

from phx_protocol import Socket, event
from phx_protocol.conf import LONGPOLL, options
from phx_protocol.testing import connect
from tests.support.rooms import OpenRoom


class FreeChannel(OpenRoom):
    @event("say")
    async def say(self, payload: Any) -> Any:
        return "ok", payload


async def test_settings_apply_to_sockets_without_attributes_of_their_own() -> None:
    with override_settings(
        PHX_PROTOCOL={"CHANNELS": {"free": FreeChannel}, "THROTTLE": "1/h"}
    ):
        socket = await connect(Socket)
        free = await socket.join("free")
        await free.assert_reply(await free.push("say"), "ok")
        await free.assert_reply(await free.push("say"), "error")
        await socket.close()


class HastySocket(Socket):
    timeout = 7
    longpoll = {"WINDOW": 1.0}
    max_broadcast_size = 1


def test_attributes_of_a_socket_win_except_for_settings_of_the_project() -> None:
    chosen = {"TIMEOUT": 5, "LONGPOLL": False, "MAX_BROADCAST_SIZE": 2}
    with override_settings(PHX_PROTOCOL=chosen):
        assert (options().timeout, options(HastySocket).timeout) == (5, 7)
        assert options().longpoll is False
        assert options(HastySocket).longpoll == {**LONGPOLL, "WINDOW": 1.0}
        assert options(HastySocket).max_broadcast_size == 2
    assert options().timeout != 5


class PollSocket(Socket):
    websocket = False
    longpoll = {"PATH": "/poll/"}


def test_a_mount_has_a_path_for_each_transport_that_its_socket_serves() -> None:
    assert options().paths("/socket") == {"websocket": "/socket/websocket"}
    assert options(PollSocket).paths("/ws/<int:shop>/") == {
        "longpoll": "/ws/<int:shop>/poll"
    }
    assert options(PollSocket).paths("/") == {"longpoll": "/poll"}
