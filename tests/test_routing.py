"""Which URLs the mounts have."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from phx_protocol import LongPollConsumer, Socket
from phx_protocol.routing import patterns


class Both(Socket):
    longpoll = True


class PollOnly(Socket):
    websocket = False
    longpoll = {"PATH": "/poll/"}


class Renamed(Socket):
    websocket = {"PATH": "ws"}


def urls(mount: str, socket: type[Socket]) -> list[str]:
    return [str(pattern.pattern) for pattern in patterns({mount: socket})]


def test_long_poll_is_off_unless_it_is_switched_on() -> None:
    assert urls("/socket", Socket) == ["socket/websocket", "socket/websocket/"]
    assert urls("/socket", Both) == [
        "socket/websocket",
        "socket/websocket/",
        "socket/longpoll",
        "socket/longpoll/",
    ]


def test_the_last_segment_can_be_another_one() -> None:
    assert urls("/ws/<int:shop>", PollOnly) == [
        "ws/<int:shop>/poll",
        "ws/<int:shop>/poll/",
    ]
    assert urls("/", Renamed) == ["ws", "ws/"]


def test_long_poll_by_hand_needs_the_switch_as_well() -> None:
    LongPollConsumer.as_asgi(socket=Both)
    with pytest.raises(ImproperlyConfigured, match="longpoll = True"):
        LongPollConsumer.as_asgi(socket=Socket)
