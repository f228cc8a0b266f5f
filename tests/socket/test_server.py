"""The rules around a channel's callbacks, driven through a whole connection."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from phx_protocol import (
    Channel,
    ConnectionRefused,
    JoinDenied,
    Reason,
    Socket,
    areauthorize,
    event,
)
from phx_protocol.node.node import get_node
from phx_protocol.socket.events import parse_answer
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect


class Held:
    """Something that a callback has."""

    all: weakref.WeakSet[Held] = weakref.WeakSet()


class Recorder(Channel):
    """Writes down what happens to it; its handlers wait for gates of the test."""

    log: list[Any] = []
    gates: dict[str, asyncio.Event] = {}

    async def join(self, payload: Any) -> Any:
        if payload.get("gate"):
            await self.gate(payload["gate"])
        if payload.get("deny"):
            return "error", {"reason": "denied"}
        if payload.get("denied for good"):
            raise JoinDenied({"reason": "banned"}, permanent=True)
        if "return" in payload:
            return payload["return"]
        return "ok"

    async def gate(self, name: str) -> None:
        await self.gates.setdefault(name, asyncio.Event()).wait()

    @event("wait")
    async def wait(self, payload: Any) -> Any:
        self.log.append(f"wait {payload['gate']}")
        try:
            await self.gate(payload["gate"])
        finally:
            self.log.append(f"done {payload['gate']}")
        return "ok", payload

    @event("hold")
    async def hold(self, payload: Any) -> None:
        held = Held()
        Held.all.add(held)
        await self.gate("never")

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        self.log.append("echo")
        return "ok", payload

    @event("crash")
    async def crash(self, payload: Any) -> Any:
        raise RuntimeError("crash")

    @event("timeout")
    async def timeout(self, payload: Any) -> Any:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "ok", {"timed_out": True}

    @event("cancelled")
    async def cancelled(self, payload: Any) -> Any:
        await wait_for_what_is_cancelled()

    @event("stop")
    async def stop_now(self, payload: Any) -> Any:
        await self.stop()
        return "ok", payload

    @event("answer")
    async def answer(self, payload: Any) -> Any:
        return 5

    async def terminate(self, reason: Reason) -> None:
        self.log.append((reason, type(self.exception).__name__))


class RecorderSocket(Socket):
    channels = {"room:*": Recorder}


@pytest.fixture
async def socket() -> Any:
    Recorder.log, Recorder.gates = [], {}
    socket = await connect(RecorderSocket)
    yield socket
    if socket.close_code is None:
        await socket.close()


@pytest.fixture
async def room(socket: Connected) -> Joined:
    return await socket.join("room:1")


def open_gate(name: str) -> None:
    Recorder.gates.setdefault(name, asyncio.Event()).set()


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


async def test_a_second_join_cancels_what_runs_and_its_reply_comes_first(
    socket: Connected, room: Joined
) -> None:
    await room.push("wait", {"gate": "never"})
    await room.push("echo")
    again = await socket.join("room:1")
    await room.assert_ended()
    assert Recorder.log == [
        "wait never",
        "done never",
        (Reason.DUPLICATE_JOIN, "NoneType"),
    ]
    await again.assert_reply(await again.push("echo"), "ok")


async def test_what_a_cancelled_callback_had_is_gone_without_the_garbage_collector(
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


async def test_joins_sent_at_once_are_all_answered_in_order(
    socket: Connected, room: Joined
) -> None:
    await room.push("wait", {"gate": "never"})
    for ref in ("7", "8", "9"):
        await socket.send([ref, ref, "room:1", "phx_join", {}])
    await socket._take(lambda frame: frame[0] == "8" and frame[3] == "phx_close")
    refs = [frame[1] for frame in socket._arrived if frame[3] == "phx_reply"]
    assert refs == ["7", "8", "9"]
    await socket._take(lambda frame: frame[0] == "7" and frame[3] == "phx_close")


async def test_a_leave_waits_for_what_runs(room: Joined) -> None:
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


async def test_awaiting_something_cancelled_is_a_crash_like_any_other(
    room: Joined,
) -> None:
    await room.push("cancelled")
    await room.assert_ended(crashed=True)


async def wait_for_what_is_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


class Unlucky(Recorder):
    """Whatever `fails` names awaits what was cancelled, or cannot be made at all."""

    fails = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.fails == "class":
            raise RuntimeError("crash")

    async def authorize(self) -> bool:
        if self.fails == "authorize":
            await wait_for_what_is_cancelled()
        return True

    async def join(self, payload: Any) -> Any:
        if self.fails == "join":
            await wait_for_what_is_cancelled()
        return "ok"

    async def terminate(self, reason: Reason) -> None:
        if self.fails == "terminate":
            await wait_for_what_is_cancelled()


class UnluckySocket(RecorderSocket):
    channels = {"unlucky:*": Unlucky}
    max_channels = 1


@pytest.fixture
async def unlucky() -> Any:
    Unlucky.fails = ""
    socket = await connect(UnluckySocket)
    yield socket
    await socket.close()


@pytest.mark.parametrize("fails", ["class", "authorize", "join"])
async def test_a_join_is_answered_whatever_crashes_and_what_is_behind_it_is_handled(
    unlucky: Connected, fails: str
) -> None:
    Unlucky.fails = fails
    for ref in ("1", "2"):
        await unlucky.send([ref, ref, "unlucky:1", "phx_join", {}])
    for ref in ("1", "2"):
        answer = await unlucky._take(lambda frame: frame[1] == ref)
        assert answer[4]["response"] == {"reason": "join crashed"}
    Unlucky.fails = ""
    await unlucky.join("unlucky:2")


async def test_what_waits_behind_an_end_that_crashes_is_handled(
    unlucky: Connected,
) -> None:
    room = await unlucky.join("unlucky:1")
    Unlucky.fails = "terminate"
    await unlucky.send(["9", "9", "unlucky:1", "phx_leave", {}])
    await unlucky.send([room.join_ref, "8", "unlucky:1", "phx_leave", {}])
    await unlucky.send(["7", "7", "unlucky:1", "phx_join", {}])
    answer = await unlucky._take(lambda frame: frame[1] == "7")
    assert answer[4]["status"] == "ok"


async def test_who_cannot_be_asked_about_is_not_left_there(unlucky: Connected) -> None:
    room = await unlucky.join("unlucky:1")
    Unlucky.fails = "authorize"
    await areauthorize()
    await room.assert_ended(crashed=True)


async def test_a_connect_that_awaits_what_was_cancelled_is_a_crash() -> None:
    class Door(RecorderSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            await wait_for_what_is_cancelled()

    with pytest.raises(ConnectionRefused) as refused:
        await connect(Door)
    assert refused.value.status == 500


async def test_a_timeout_in_a_handler_is_its_own(
    socket: Connected, room: Joined
) -> None:
    await room.assert_reply(await room.push("timeout"), "ok", {"timed_out": True})
    await room.assert_reply(await room.push("echo"), "ok")


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


async def test_a_wrong_answer_crashes_and_names_what_is_accepted(
    room: Joined, caplog: pytest.LogCaptureFixture
) -> None:
    await room.push("answer")
    await room.assert_ended(crashed=True)
    assert "a callback returns None, a status" in caplog.text


async def test_a_join_without_an_answer_fails_closed(
    socket: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(JoinDenied) as denied:
        await socket.join("room:1", {"return": None})
    assert denied.value.reply == {"reason": "join crashed"}
    assert 'join must return "ok" or "error"' in caplog.text


async def test_a_denied_join_is_terminated_too(socket: Connected) -> None:
    with pytest.raises(JoinDenied):
        await socket.join("room:1", {"deny": True})
    await socket.close()
    assert Recorder.log == [(Reason.SHUTDOWN, "NoneType")]


async def test_a_join_denied_for_good_is_closed(socket: Connected) -> None:
    with pytest.raises(JoinDenied) as denied:
        await socket.join("room:1", {"denied for good": True})
    assert denied.value.reply == {"reason": "banned"}
    await socket._take(lambda frame: frame[2:4] == ["room:1", "phx_close"])


async def test_when_the_connection_ends_what_waits_is_handled_first(
    socket: Connected, room: Joined
) -> None:
    await room.push("wait", {"gate": "a"})
    await room.push("echo")
    closing = asyncio.create_task(socket.close())
    await asyncio.sleep(0)
    open_gate("a")
    await closing
    assert Recorder.log == ["wait a", "done a", "echo", (Reason.CLOSED, "NoneType")]


class Impatient(RecorderSocket):
    shutdown_timeout = 0.05


async def test_what_does_not_end_in_time_is_cancelled_then_terminated() -> None:
    Recorder.log, Recorder.gates = [], {}
    socket = await connect(Impatient)
    room = await socket.join("room:1")
    await room.push("wait", {"gate": "never"})
    await socket.close()
    assert Recorder.log == ["wait never", "done never", (Reason.CLOSED, "NoneType")]


async def test_a_frame_that_is_none_closes_with_1011(
    socket: Connected, room: Joined, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"type": "websocket.receive", "text": "nope"}
    await socket.line.communicator.send_input(bad)
    await socket.assert_closed(1011)
    await socket.close()
    assert Recorder.log == [(Reason.CRASH, "DecodeError")]
    assert not [r for r in caplog.records if r.exc_info]


@pytest.mark.parametrize(
    "answer", [5, ("ok",), ("ok", 1, 2), (1, {}), {"status": "ok"}]
)
def test_answers_that_are_none(answer: Any) -> None:
    with pytest.raises(TypeError, match="a callback returns"):
        parse_answer(answer)
