"""A join: in which order it is answered, and with what."""

from __future__ import annotations

import pytest

from phx_protocol import JoinDenied, Reason
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from tests.socket.recorder import Recorder, Unlucky, room, socket, unlucky

__all__ = ["room", "socket", "unlucky"]


async def test_a_second_join_cancels_the_running_callback_and_its_reply_comes_first(
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


@pytest.mark.parametrize("fails", ["class", "authorize", "join"])
async def test_a_join_is_answered_whatever_crashes_and_later_mail_is_handled(
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
