"""Calls of a channel's code: what it may answer, and what is a crash."""

from __future__ import annotations

from typing import Any

import pytest

from phx_protocol.socket.events import parse_answer
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from tests.socket.recorder import room, socket

__all__ = ["room", "socket"]


async def test_awaiting_something_cancelled_is_a_crash_like_any_other(
    room: Joined,
) -> None:
    await room.push("cancelled")
    await room.assert_ended(crashed=True)


async def test_a_timeout_in_a_handler_is_its_own(
    socket: Connected, room: Joined
) -> None:
    await room.assert_reply(await room.push("timeout"), "ok", {"timed_out": True})
    await room.assert_reply(await room.push("echo"), "ok")


async def test_a_wrong_answer_crashes_and_names_what_is_accepted(
    room: Joined, caplog: pytest.LogCaptureFixture
) -> None:
    await room.push("answer")
    await room.assert_ended(crashed=True)
    assert "a callback returns None, a status" in caplog.text


@pytest.mark.parametrize(
    "answer", [5, ("ok",), ("ok", 1, 2), (1, {}), {"status": "ok"}]
)
def test_answers_that_are_none(answer: Any) -> None:
    with pytest.raises(TypeError, match="a callback returns"):
        parse_answer(answer)
