"""The rules around a channel's callbacks, driven through a whole connection."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from phx_protocol import ConnectionRefused, Reason
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from tests.socket.recorder import (
    Held,
    Recorder,
    RecorderSocket,
    room,
    socket,
    wait_for_what_is_cancelled,
)

__all__ = ["room", "socket"]


async def test_memory_of_a_cancelled_callback_is_freed_without_the_garbage_collector(
    socket: Connected, room: Joined
) -> None:
    gc.disable()
    try:
        await room.push("hold")
        while not Held.all:
            await asyncio.sleep(0)
        await socket.join("room:1")
        await room.assert_ended()
        assert len(Held.all) == 0
    finally:
        gc.enable()


async def test_a_connect_that_awaits_something_cancelled_is_a_crash() -> None:
    class Door(RecorderSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            await wait_for_what_is_cancelled()

    with pytest.raises(ConnectionRefused) as refused:
        await connect(Door)
    assert refused.value.status == 500


async def test_a_frame_that_is_none_closes_with_1011(
    socket: Connected, room: Joined, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"type": "websocket.receive", "text": "nope"}
    await socket.communicator.asgi.send_input(bad)
    await socket.assert_closed(1011)
    await socket.close()
    assert Recorder.log == [(Reason.CRASH, "DecodeError")]
    assert not [r for r in caplog.records if r.exc_info]
