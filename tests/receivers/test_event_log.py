"""The log of what happens: which lines it has, and when it hears nothing."""

from __future__ import annotations

import pytest

from phx_protocol import ConnectionRefused, JoinDenied, signals
from phx_protocol.testing import connect
from tests.receivers.rooms import Doors, Room


def test_the_log_writes_only_what_its_level_allows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Logged(Room):
        log_handle_in = 10

    caplog.set_level("INFO", "phx_protocol.channel")
    assert not signals.channel_handled_in.is_heard(Logged)
    caplog.set_level("DEBUG", "phx_protocol.channel")
    assert signals.channel_handled_in.is_heard(Logged)
    assert not signals.channel_handled_in.is_heard(Room)


async def test_the_log_has_the_lines_of_phoenix(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Logged(Room):
        log_handle_in = 10

    class LoggedDoors(Doors):
        channels = {"room:*": Logged}

    caplog.set_level("DEBUG", "phx_protocol")
    client = await connect(LoggedDoors, {"password": "secret"})
    room = await client.join("room:lobby", {"token": "secret"})
    await room.assert_reply(await room.push("say", {"body": "hi"}), "ok")
    with pytest.raises(JoinDenied):
        await client.join("room:denied")
    await client.close()
    with pytest.raises(ConnectionRefused):
        await connect(LoggedDoors, {"refuse": "1"})
    lines = [r.getMessage() for r in caplog.records]
    starts = [
        "CONNECTED TO LoggedDoors in ",
        "JOINED room:lobby in ",
        "HANDLED say INCOMING ON room:lobby (Logged) in ",
        "REFUSED JOIN room:denied in ",
        "REFUSED CONNECTION TO LoggedDoors in ",
    ]
    upper = [line for line in lines if line.split()[0].isupper()]
    assert len(upper) == len(starts)
    assert all(line.startswith(start) for line, start in zip(upper, starts))
    assert "secret" not in caplog.text
