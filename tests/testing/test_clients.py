"""The test helpers: what they find, what they miss, and what they say when they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import (
    ConnectionRefused,
    JoinDenied,
    Reason,
    Socket,
    abroadcast,
    adisconnect,
)
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestChannel, clients, connect
from tests.testing.rooms import RoomSocket, ended, room, wire

__all__ = ["room", "wire"]


async def test_refute_waits_for_what_a_handler_does_late(
    room: TestChannel,
) -> None:
    ref = await room.push("think", 50)
    with pytest.raises(AssertionError, match="'thought' with any payload arrived"):
        await room.refute_push("thought")
    with pytest.raises(AssertionError, match=f"a reply to {ref} arrived"):
        await room.refute_reply(ref)
    with pytest.raises(AssertionError, match="fine"):
        await room.refute_reply(ref, "fine", {"n": 50})
    await room.refute_reply(ref, "ok")
    await room.refute_reply(ref, "fine", {"n": 1})
    await room.refute_push("thought", {"of": "something"})
    await room.refute_push("other")


async def test_an_asserted_message_is_taken_out(room: TestChannel) -> None:
    ref = await room.push("think", 1)
    await room.assert_reply(ref, "fine")
    await room.assert_push("thought")
    await room.refute_reply(ref)
    await room.refute_push("thought")
    await room.refute_reply(await room.push("silence"))


async def test_broadcasts_are_asserted_in_any_order_and_then_refuted(
    room: TestChannel,
) -> None:
    await room.push("say", {"first": 1, "held": 2, "last": 3})
    await room.assert_broadcast("last", {"said": 3})
    await room.assert_broadcast("held", {"said": 2})
    await room.refute_broadcast("last")
    await room.refute_broadcast("first", {"said": 2})
    with pytest.raises(AssertionError, match=r"'first' was broadcast:\n  .*'said': 1"):
        await room.refute_broadcast("first")
    await room.refute_push("held")


async def test_a_failed_assertion_lists_what_arrived(
    room: TestChannel,
) -> None:
    ref = await room.push("say", {"hello": 1})
    with pytest.raises(
        AssertionError, match=r"(?s)'bye' with any payload did not arrive.*'hello'"
    ):
        await room.assert_push("bye")
    with pytest.raises(
        AssertionError, match=r"(?s)'bye' with \{'a': 1\} was not broadcast.*'hello'"
    ):
        await room.assert_broadcast("bye", {"a": 1})
    with pytest.raises(
        AssertionError, match=r"the reply is \('ok', \{\}\), not 'error'"
    ):
        await room.assert_reply(ref, "error")


async def test_a_callback_that_does_not_end_is_named_and_cancelled_at_close(
    room: TestChannel,
) -> None:
    before = asyncio.all_tasks()
    await room.push("stuck")
    with pytest.raises(AssertionError, match="callbacks still run.*stuck"):
        await room.refute_push("anything")
    (stuck,) = asyncio.all_tasks() - before
    with pytest.raises(AssertionError, match="callbacks still run.*stuck"):
        await room.socket.close()
    await asyncio.wait({stuck}, timeout=1)
    assert stuck.done()
    ended.append(
        Reason.CLOSED
    )  # nobody has called terminate: the room is closed already


async def test_a_client_that_leaves_closes_or_is_cut_off(room: TestChannel) -> None:
    await room.leave()
    assert ended == [Reason.LEFT]
    await room.socket.join("room:2")
    await room.socket.disconnect()
    assert ended == [Reason.LEFT, Reason.CLOSED]


async def test_a_client_that_is_closed_listens_no_more(room: TestChannel) -> None:
    assert "room:1" in get_node().pubsub.registry
    await room.socket.close()
    assert "room:1" not in get_node().pubsub.registry


async def test_a_connection_is_refused_and_a_join_is_denied(wire: bool) -> None:
    with pytest.raises(ConnectionRefused, match="pay first") as refused:
        await connect(RoomSocket, {"n": 1}, wire=wire)
    assert refused.value.status == 402
    with pytest.raises(ConnectionRefused) as crashed:
        await connect(RoomSocket, {"n": 2}, wire=wire)
    assert crashed.value.status == 500
    with pytest.raises(ConnectionRefused) as strange:
        await connect(RoomSocket, headers={"origin": "https://a.test"}, wire=wire)
    assert strange.value.status == 403
    socket = await connect(RoomSocket, wire=wire)
    with pytest.raises(JoinDenied):
        await socket.join("room:closed")
    await socket.close()


async def test_an_id_that_is_no_string_refuses_the_connection(wire: bool) -> None:
    class Wrong(Socket):
        def id(self) -> Any:
            return 1

    with pytest.raises(ConnectionRefused):
        await connect(Wrong, wire=wire)
    assert not len(get_node().connections)


async def test_a_connect_that_does_not_end_raises_an_error(
    wire: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "TIMEOUT", 0.1)
    get_node().start()
    await get_node().reachable()
    before = asyncio.all_tasks()
    with pytest.raises(AssertionError, match=r"RoomSocket.connect did not end in 0.1"):
        await connect(RoomSocket, {"n": 3}, wire=wire)
    assert asyncio.all_tasks() == before


async def test_a_client_that_is_disconnected_by_its_id_gets_nothing_more(
    wire: bool,
) -> None:
    socket = await connect(RoomSocket, {"name": "ann"}, wire=wire)
    room = await socket.join("room:1")
    ended.clear()
    await adisconnect("ann")
    await abroadcast("room:1", "late", {})
    await socket.assert_closed(1001)
    await room.push("echo")
    await room.refute_push("late")
    await socket.close()
    assert ended == [Reason.DISCONNECTED]
