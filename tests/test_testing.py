"""The test helpers: what they find, what they miss, and what they say when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, Reason, Socket, event
from phx_protocol.testing import TestChannel, clients, connect

ended: list[Reason] = []


class RoomChannel(Channel):
    intercepts = {"held"}

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        for name, said in payload.items():
            await self.broadcast(name, {"said": said})
        return "ok"

    @event("think")
    async def think(self, payload: Any) -> Any:
        for _ in range(payload):
            await asyncio.sleep(0)
        await self.push("thought", {})
        return "fine", {"n": payload}

    @event("silence")
    async def silence(self, payload: Any) -> None: ...

    @event("stuck")
    async def stuck(self, payload: Any) -> None:
        await asyncio.Event().wait()

    async def handle_out(self, event: str, payload: Any) -> None: ...

    async def terminate(self, reason: Reason) -> None:
        ended.append(reason)


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestChannel]:
    monkeypatch.setattr(clients, "TIMEOUT", 0.3)
    socket = await connect(RoomSocket)
    channel = await socket.join("room:1")
    ended.clear()
    yield channel
    if socket.close_code is None and not ended:
        await socket.close()


async def test_what_a_handler_does_late_is_waited_for_before_it_is_refuted(
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


async def test_what_was_asserted_has_been_taken(room: TestChannel) -> None:
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


async def test_what_did_arrive_is_told_when_something_else_was_wanted(
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


async def test_a_callback_that_does_not_end_is_told(room: TestChannel) -> None:
    await room.push("stuck")
    with pytest.raises(AssertionError, match="callbacks still run.*stuck"):
        await room.refute_push("anything")


async def test_a_client_that_leaves_closes_or_is_cut_off(room: TestChannel) -> None:
    await room.leave()
    assert ended == [Reason.LEFT]
    await room.socket.join("room:2")
    await room.socket.disconnect()
    assert ended == [Reason.LEFT, Reason.CLOSED]
