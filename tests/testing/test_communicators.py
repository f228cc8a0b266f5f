"""The two communicators of a test client: over the wire, and direct."""

from __future__ import annotations

import pytest

from phx_protocol import EncodeError, Reason, abroadcast
from phx_protocol.testing import TestChannel, connect
from tests.testing.rooms import RoomSocket, ended, room, wire

__all__ = ["room", "wire"]


async def test_a_client_gets_json_whatever_python_had(room: TestChannel) -> None:
    ref = await room.push("python")
    assert await room.assert_reply(ref, "ok") == "2026-01-01T00:00:00Z"
    values = await room.assert_push("values")
    assert values == {"when": "2026-01-01T00:00:00Z", "1": [1, 2], "nan": None}
    assert await room.assert_push("news") == {"when": "2026-01-01T00:00:00Z"}
    assert await room.assert_broadcast("news") == {"when": "2026-01-01T00:00:00Z"}


async def test_a_handler_gets_json_of_its_own(room: TestChannel) -> None:
    payload = {"of": (1, 2)}
    answer = await room.assert_reply(await room.push("echo", payload), "ok")
    assert payload == {"of": (1, 2)}
    assert answer == {"of": [1, 2], "seen": True}
    assert await room.assert_push("heard") == {"payload": {"of": [1, 2]}}
    with pytest.raises(EncodeError):
        await room.push("echo", {"object": object()})


async def test_bytes_stay_bytes(room: TestChannel) -> None:
    assert await room.assert_reply(await room.push("echo", b"\x00"), "ok") == b"\x00"
    await abroadcast("room:1", "raw", b"\xff")
    await room.assert_push("raw", b"\xff")


@pytest.mark.parametrize("event", ["unsayable", "list"])
async def test_a_payload_that_cannot_be_sent_ends_the_channel(
    room: TestChannel, event: str
) -> None:
    await room.push(event)
    await room.assert_ended(crashed=True)
    assert ended == [Reason.CRASH]


async def test_clients_with_and_without_the_wire_hear_each_other() -> None:
    sockets = [await connect(RoomSocket, wire=w) for w in (True, False)]
    rooms = [await socket.join("room:1") for socket in sockets]
    for n, one in enumerate(rooms):
        await one.push("say", {"hello": n})
        for other in rooms:
            await other.assert_push("hello", {"said": n})
    for socket in sockets:
        await socket.close()
