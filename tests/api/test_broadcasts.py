"""broadcast() from every kind of code."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import transaction

from phx_protocol import (
    EncodeError,
    abroadcast,
    broadcast,
    broadcast_on_commit,
    disconnect,
    local_broadcast,
)
from phx_protocol.node.node import get_node
from phx_protocol.testing import connect
from tests.api.rooms import RoomSocket, assert_hears_foreign_code, room

__all__ = ["room"]


async def test_abroadcast_reaches_the_clients_of_this_process(room: Any) -> None:
    await abroadcast("room:1", "news", {"a": 1})
    await room.assert_push("news", {"a": 1})
    await local_broadcast("room:1", "news", {"a": 2})
    await room.assert_push("news", {"a": 2})


async def test_a_thread_of_the_serving_process_reaches_them_too(room: Any) -> None:
    await asyncio.to_thread(broadcast, "room:1", "news", {"a": 1})
    await room.assert_push("news", {"a": 1})
    thread = threading.Thread(target=broadcast, args=("room:1", "news", {"a": 2}))
    thread.start()
    await room.assert_push("news", {"a": 2})
    await asyncio.to_thread(thread.join)


@pytest.mark.django_db(transaction=True)
async def test_a_plain_def_handler_may_broadcast(room: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("phx_protocol.concurrency.callbacks.thread_sensitive", False)
    await room.assert_reply(await room.push("plain", {"a": 1}), "ok")
    await room.assert_push("plain", {"a": 1})


async def test_the_sender_is_left_out(room: Any) -> None:
    other = await (await connect(RoomSocket)).join("room:1")
    await room.assert_reply(await room.push("whisper", {"a": 1}), "ok")
    await other.assert_push("whisper", {"a": 1})
    assert not [frame for frame in room.socket._arrived if frame[3] == "whisper"]
    await other.socket.close()


async def test_broadcast_on_a_running_loop_says_what_to_call(room: Any) -> None:
    with pytest.raises(RuntimeError, match="await abroadcast"):
        broadcast("room:1", "news", {})


async def test_a_broadcast_that_no_client_can_get_raises_an_error(room: Any) -> None:
    with pytest.raises(EncodeError):
        await abroadcast("room:1", "news", [1])
    with pytest.raises(EncodeError):
        await abroadcast("room:1", "news", {"a": object()})
    with pytest.raises(TypeError):
        await abroadcast(5, "news", {})  # type: ignore[arg-type]


async def test_disconnect_closes_the_sockets_of_an_id(room: Any) -> None:
    await asyncio.to_thread(disconnect, "users:1")
    await room.socket.assert_closed(1001)


async def test_the_node_ends_when_nobody_is_there_and_starts_again(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.pubsub.groups.LINGER", 0)
    socket = await connect(RoomSocket)
    await (await socket.join("room:1")).leave()
    await socket.close()
    node = get_node()
    node._tick()
    async with asyncio.timeout(5):
        while node.link._listener is not None or len(node.link.groups):
            await asyncio.sleep(0)
            node.link.groups.sweep(node.loop.time())
            if not len(node.link.groups) and node.link._listener is not None:
                node._tick()
    socket = await connect(RoomSocket)
    room = await socket.join("room:1")
    await assert_hears_foreign_code(room)
    await socket.close()


@pytest.mark.django_db(transaction=True)
def test_on_commit_sends_after_the_commit_and_not_after_a_rollback(
    monkeypatch: Any,
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(
        "phx_protocol.api.broadcasts._broadcast",
        lambda m: sent.append(bytes(m.payload)),
    )
    payload = {"a": 1}
    with transaction.atomic():
        broadcast_on_commit("room:1", "news", payload)
        payload["a"] = 2  # too late: it was encoded
        assert not sent
    assert sent == [b'{"a":1}']
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        broadcast_on_commit("room:1", "news", payload)
        raise ZeroDivisionError
    assert len(sent) == 1
