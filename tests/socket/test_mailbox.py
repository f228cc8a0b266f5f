"""The mailbox of a topic: one after the other, and nobody else waits for it."""

from __future__ import annotations

import asyncio

from phx_protocol import Reason
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from tests.socket.recorder import Recorder, Unlucky, open_gate, room, socket, unlucky

__all__ = ["room", "socket", "unlucky"]


async def test_events_of_a_channel_are_handled_one_at_a_time_in_order(
    room: Joined,
) -> None:
    first = await room.push("wait", {"gate": "a"})
    second = await room.push("echo")
    open_gate("a")
    await room.assert_reply(first, "ok")
    await room.assert_reply(second, "ok")
    assert Recorder.log == ["wait a", "done a", "echo"]


async def test_a_channel_that_waits_delays_nobody(
    socket: Connected, room: Joined
) -> None:
    waiting = await room.push("wait", {"gate": "a"})
    await socket.send([None, "hb", "phoenix", "heartbeat", {}])
    await socket._take(lambda frame: frame[1] == "hb")
    other = await socket.join("room:2")
    await other.assert_reply(await other.push("echo"), "ok")
    open_gate("a")
    await room.assert_reply(waiting, "ok")


async def test_a_join_that_waits_delays_nobody(socket: Connected) -> None:
    joining = asyncio.create_task(socket.join("room:slow", {"gate": "join"}))
    await asyncio.sleep(0)
    await socket.send(["7", "7", "room:2", "phx_join", {}])
    while len(socket._arrived) < 1:
        await asyncio.sleep(0)
    assert socket._arrived[0][1] == "7"
    open_gate("join")
    await joining


async def test_pushes_behind_a_join_that_waits_are_handled_after_it(
    socket: Connected,
) -> None:
    await socket.send(["1", "1", "room:1", "phx_join", {"gate": "join"}])
    await socket.send(["1", "2", "room:1", "echo", {}])
    await socket.send(["1", "3", "room:1", "phx_leave", {}])
    open_gate("join")
    await socket._take(lambda frame: frame[3] == "phx_close")
    refs = [frame[1] for frame in socket._arrived if frame[3] == "phx_reply"]
    assert refs == ["1", "2", "3"]


async def test_mail_after_an_end_that_crashes_is_handled(
    unlucky: Connected,
) -> None:
    room = await unlucky.join("unlucky:1")
    Unlucky.fails = "terminate"
    await unlucky.send(["9", "9", "unlucky:1", "phx_leave", {}])
    await unlucky.send([room.join_ref, "8", "unlucky:1", "phx_leave", {}])
    await unlucky.send(["7", "7", "unlucky:1", "phx_join", {}])
    answer = await unlucky._take(lambda frame: frame[1] == "7")
    assert answer[4]["status"] == "ok"


async def test_when_the_connection_ends_waiting_mail_is_handled_first(
    socket: Connected, room: Joined
) -> None:
    await room.push("wait", {"gate": "a"})
    await room.push("echo")
    closing = asyncio.create_task(socket.close())
    await asyncio.sleep(0)
    open_gate("a")
    await closing
    assert Recorder.log == ["wait a", "done a", "echo", (Reason.CLOSED, "NoneType")]
