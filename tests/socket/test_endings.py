"""The endings of a channel: left, stopped, crashed, or out of time."""

from __future__ import annotations

import logging

import pytest

from phx_protocol import Reason, areauthorize
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from tests.socket.recorder import (
    Recorder,
    RecorderSocket,
    Unlucky,
    open_gate,
    room,
    socket,
    unlucky,
)

__all__ = ["room", "socket", "unlucky"]


async def test_a_leave_waits_for_the_running_callback(room: Joined) -> None:
    waiting = await room.push("wait", {"gate": "a"})
    await room.close()
    open_gate("a")
    await room.assert_reply(waiting, "ok")
    await room.assert_ended()
    assert Recorder.log[-1] == (Reason.LEFT, "NoneType")


async def test_a_crash_costs_only_its_channel(
    socket: Connected, room: Joined, caplog: pytest.LogCaptureFixture
) -> None:
    other = await socket.join("room:2")
    await room.push("crash")
    await room.assert_ended(crashed=True)
    assert Recorder.log == [(Reason.CRASH, "RuntimeError")]
    await other.assert_reply(await other.push("echo"), "ok")
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


async def test_a_channel_ends_when_authorize_raises_an_error(
    unlucky: Connected,
) -> None:
    room = await unlucky.join("unlucky:1")
    Unlucky.fails = "authorize"
    await areauthorize()
    await room.assert_ended(crashed=True)


async def test_stop_sends_the_reply_first(room: Joined) -> None:
    await room.assert_reply(await room.push("stop", {"a": 1}), "ok", {"a": 1})
    await room.assert_ended()
    assert Recorder.log == [(Reason.NORMAL, "NoneType")]


@pytest.mark.parametrize("reason", ["normal", "shutdown", "because"])
async def test_a_channel_that_does_nothing_can_be_stopped_by_a_task_of_its_own(
    room: Joined, reason: str
) -> None:
    (socket,) = get_node().connections
    (channel,) = socket.joined()
    await channel.stop(reason)
    await room.assert_ended(crashed=reason == "because")


class Impatient(RecorderSocket):
    shutdown_timeout = 0.05


async def test_a_callback_that_does_not_end_in_time_is_cancelled_and_then_terminate_runs() -> (
    None
):
    Recorder.log, Recorder.gates = [], {}
    socket = await connect(Impatient)
    room = await socket.join("room:1")
    await room.push("wait", {"gate": "never"})
    await socket.close()
    assert Recorder.log == ["wait never", "done never", (Reason.CLOSED, "NoneType")]
