"""A channel as users write it: assigns, pushes, replies, broadcasts."""

from __future__ import annotations

from phx_protocol.testing import connect
from tests.socket.chat import RoomSocket


async def test_assigns_are_copied_into_the_channel_with_the_routes_on_top() -> None:
    socket = await connect(RoomSocket, {"name": "ada"})
    for name in ("a", "b"):
        room = await socket.join(f"room:{name}")
        wanted = {"from_socket": "ada", "from_route": 1, "joined": True}
        assert room.reply == {"assigns": wanted, "subtopic": name}
        await room.assert_push("welcome", {"to": name})
    await socket.close()


async def test_a_payload_is_checked_before_the_handler() -> None:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    wrong = await room.assert_reply(await room.push("new_msg", {"body": 5}), "error")
    assert wrong == {
        "reason": "invalid payload",
        "errors": [{"path": "$.body", "message": "Expected `str`, got `int`"}],
    }
    await room.assert_reply(await room.push("new_msg", {"body": "hi"}), "ok")
    await room.assert_broadcast("new_msg", {"body": "hi"})
    await socket.close()


async def test_each_receiver_has_its_own_copy_and_its_own_context() -> None:
    one, two = await connect(RoomSocket), await connect(RoomSocket)
    a, b = await one.join("room:1"), await two.join("room:1")
    await a.push("secret")
    await a.assert_push("secret", {"items": ["1"]})
    await b.assert_push("secret", {"items": ["1"], "context": "clean"})
    await one.close()
    await two.close()


async def test_a_plain_def_runs_in_a_thread() -> None:
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("plain"), "ok", {"thread": True})
    await socket.close()
