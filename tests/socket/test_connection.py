"""Connections: whatever carries them, their limits, and what waits in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from phx_protocol import Channel, JoinDenied, Socket, event, local_broadcast
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket, connect
from phx_protocol.wire import json, serializers
from tests.socket.echo import EchoChannel, EchoSocket


async def test_a_frame_that_is_too_large_closes_with_1009() -> None:
    socket = await connect(EchoSocket)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("echo", {"a": "x" * 900}), "ok")
    await room.push("echo", {"a": "é" * 500})
    await socket.assert_closed(1009)
    await socket.close()


async def test_too_many_frames_that_wait_close_with_1013() -> None:
    class SlowChannel(EchoChannel):
        @event("slow")
        async def slow(self, payload: Any) -> Any:
            import asyncio

            await asyncio.Event().wait()

    class SlowSocket(EchoSocket):
        channels = {"room:*": SlowChannel}
        shutdown_timeout = 0.05

    socket = await connect(SlowSocket)
    room = await socket.join("room:1")
    for _ in range(13):
        await room.push("slow")
    await socket.assert_closed(1013)
    await socket.close()


async def test_a_topic_that_is_too_long_is_refused() -> None:
    socket = await connect(EchoSocket)
    with pytest.raises(JoinDenied) as denied:
        await socket.join("room:" + "x" * 20)
    assert denied.value.reply == {"reason": "topic too long"}
    await socket.close()


async def test_a_socket_may_join_so_many_channels_and_not_one_more() -> None:
    socket = await connect(EchoSocket)
    rooms = [await socket.join(f"room:{i}") for i in range(3)]
    with pytest.raises(JoinDenied) as denied:
        await socket.join("room:4")
    assert denied.value.reply == {"reason": "too many channels joined"}
    await rooms[0].leave()
    await socket.join("room:4")
    await socket.close()


class SlowChannel(Channel):
    """Its events, and its joins if they say so, wait until the test lets them go on."""

    may_go_on: ClassVar[asyncio.Event]
    intercepts = {"held"}
    asked: ClassVar[list[str]]

    async def join(self, payload: Any) -> Any:
        self.asked.append(self.subtopic)
        if payload.get("slow"):
            await self.may_go_on.wait()
        return "error" if payload.get("deny") else "ok"

    async def handle_in(self, event: str, payload: Any) -> Any:
        await self.may_go_on.wait()
        return "ok"


class SlowSocket(Socket):
    channels = {"room:*": SlowChannel}


@pytest.fixture
async def slow() -> AsyncIterator[TestSocket]:
    SlowChannel.may_go_on, SlowChannel.asked = asyncio.Event(), []
    socket = await connect(SlowSocket)
    yield socket
    SlowChannel.may_go_on.set()
    if socket.close_code is None:
        await socket.close()


async def test_a_join_that_waits_is_not_begun_when_its_client_is_gone() -> None:
    class Few(SlowSocket):
        max_channels = 2

    SlowChannel.may_go_on, SlowChannel.asked = asyncio.Event(), []
    socket = await connect(Few)
    for number in range(40):
        topic = f"room:{number}"
        await socket.send(["1", "1", topic, "phx_join", {"slow": True}])
    while len(SlowChannel.asked) < 2:
        await asyncio.sleep(0)
    closing = asyncio.create_task(socket.close())
    while get_node().connections:
        await asyncio.sleep(0)
    SlowChannel.may_go_on.set()
    await closing
    assert SlowChannel.asked == ["0", "1"]


@pytest.mark.parametrize("item", ['"x"', "[]", '"\N{GRINNING FACE}"', '{"a":[1.5]}'])
async def test_large_frames_that_wait_close_with_1013(
    slow: TestSocket, item: str, monkeypatch: Any
) -> None:
    # the first one is decoded, for which its client waits before it is read on
    monkeypatch.setattr("phx_protocol.testing.clients.TIMEOUT", 15)
    room = await slow.join("room:1")
    count = 750_000 // len(f"{item},".encode())
    payload = json.decode(f'[{",".join([item] * count)}]')
    for _ in range(10):
        await room.push("e", {"items": payload})
    await slow.assert_closed(1013)


async def test_a_few_large_frames_may_wait(slow: TestSocket) -> None:
    room = await slow.join("room:1")
    refs = [await room.push("e", {"text": "x" * 900_000}) for _ in range(2)]
    SlowChannel.may_go_on.set()
    for ref in refs:
        await room.assert_reply(ref, "ok")


async def test_a_handled_frame_does_not_count_any_more(slow: TestSocket) -> None:
    room = await slow.join("room:1")
    SlowChannel.may_go_on.set()
    for _ in range(10):
        ref = await room.push("e", {"text": "x" * 900_000})
        await room.assert_reply(ref, "ok")


async def test_a_frame_that_no_channel_gets_is_not_decoded(monkeypatch: Any) -> None:
    def decoded(payload: Any) -> Any:
        raise AssertionError("a payload was decoded")

    monkeypatch.setattr(serializers, "decode", decoded)
    socket = await connect(SlowSocket)
    for topic, name in (("room:1", "e"), ("nowhere", "phx_join"), ("a", "phx_leave")):
        await socket.send(["1", "1", topic, name, {"a": [[]] * 1000}])
        frame = await socket.communicator.receive()
        assert frame[1:4] == ["1", topic, "phx_reply"]
    await socket.send([None, "2", "phoenix", "heartbeat", {"a": 1}])
    assert (await socket.communicator.receive())[1] == "2"
    await socket.close()


async def test_a_payload_that_is_none_ends_the_connection_when_it_is_read() -> None:
    """JSON skips over a number that is out of range, and takes it for none when it reads it."""
    socket = await connect(SlowSocket)
    SlowChannel.asked, SlowChannel.may_go_on = [], asyncio.Event()
    await socket.join("room:1")
    frame = '["1","9","room:1","e",{"n":1e999}]'
    await socket.communicator.asgi.send_input(
        {"type": "websocket.receive", "text": frame}
    )
    await socket.assert_closed(1011)


async def test_a_channel_that_does_not_take_its_broadcasts_closes_with_1013(
    slow: TestSocket,
) -> None:
    room = await slow.join("room:1")
    await room.push("e")
    for _ in range(12):
        await local_broadcast("room:1", "held", {"text": "x" * 500_000})
    await slow.assert_closed(1013)


@pytest.mark.parametrize("allowed", [0, 1, 7])
async def test_a_thousand_joins_are_decided_in_steps_that_all_cost_the_same(
    allowed: int,
) -> None:
    class Few(SlowSocket):
        max_channels = 100
        inbound = 2000

    SlowChannel.may_go_on, SlowChannel.asked = asyncio.Event(), []
    socket = await connect(Few)
    # the first hundred have places and wait; those beyond wait for what becomes of them
    for i in range(1000):
        payload = {"slow": i < 100, "deny": 0 < i <= allowed}
        await socket.send([str(i), str(i), f"room:{i}", "phx_join", payload])
    await socket.communicator.all_read()
    await asyncio.sleep(0)
    assert len(SlowChannel.asked) == 100
    SlowChannel.may_go_on.set()
    answers = [await socket.communicator.receive() for _ in range(1000)]
    joined = [int(a[1]) for a in answers if a[4]["status"] == "ok"]
    denied = range(1, allowed + 1)
    assert sorted(joined) == [i for i in range(100 + allowed) if i not in denied]
    await socket.close()


@pytest.mark.parametrize("topic", ["room:1", "nowhere", 5])
@pytest.mark.parametrize("event", ["phx_join", "e", "phx_close", 7])
async def test_the_rate_of_the_socket_counts_messages_that_no_channel_gets(
    topic: Any, event: Any
) -> None:
    class Held(SlowSocket):
        throttle = {"*": "3/h", "phx_join": "3/h"}

    SlowChannel.may_go_on, SlowChannel.asked = asyncio.Event(), []
    SlowChannel.may_go_on.set()
    socket = await connect(Held)
    reasons = []
    for i in range(5):
        await socket.send([None, str(i), topic, event, {}])
        reasons.append(
            (await socket.communicator.receive())[4]["response"].get("reason")
        )
        while not socket.communicator.is_empty():
            await socket.communicator.receive()
    assert reasons[3:] == ["rate limited"] * 2 and "rate limited" not in reasons[:3]
    await socket.close()
