"""Traffic, and whatever else could keep a topic for ever: topics are as many as clients make up."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from phx_protocol import History, Presence, abroadcast
from phx_protocol.exceptions import StateError
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.node.node import Node, get_node
from phx_protocol.presence.tracker import Trackers
from phx_protocol.pubsub import traffic as traffic_module
from phx_protocol.pubsub.traffic import Traffic
from phx_protocol.state.memory import MemoryState
from phx_protocol.testing import connect
from phx_protocol.wire import json
from phx_protocol.wire.messages import Broadcast
from tests.pubsub.rooms import RoomSocket
from tests.support.state import item


async def test_a_process_that_only_broadcasts_counts_nothing() -> None:
    node = get_node()
    for i in range(100):
        await abroadcast(f"nobody:{i}", "e", {})
    assert not [t for t in node.pubsub.traffic._counts if t.startswith("nobody:")]


def test_counts_that_nobody_looks_at_are_forgotten_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traffic = Traffic()
    now = traffic._began
    monkeypatch.setattr(traffic_module.time, "monotonic", lambda: now)
    for i in range(1000):
        now += 0.1
        traffic.add(f"t{i}")
        assert len(traffic._counts) + len(traffic._before) <= 60
    assert traffic.rates()["t999"] > 0


async def test_a_client_on_ever_new_topics_leaves_nothing_behind() -> None:
    node = get_node()
    state = node.heartbeat.state
    assert isinstance(state, MemoryState)
    tracker = node.part(Trackers).of(Presence)
    socket = await connect(RoomSocket)
    for i in range(30):
        channel = await socket.join(f"kept:{i}")
        await socket._take(lambda f: f[3] == "presence_diff")
        await channel.leave()
    async with asyncio.timeout(10):
        while any(t.startswith("kept:") for t in tracker._topics):
            await asyncio.sleep(0)  # the last diff may be on its way
            await node.heartbeat.beat()
    assert not [t for t in node.pubsub.sequencer._streams if t.startswith("kept:")]
    mine = state._nodes[node.heartbeat.name]
    assert not [g for g in mine.groups if "kept:" in g]
    clock = state._clock
    state._clock = lambda: clock() + state.lease + 1
    try:
        await state.beat(node.heartbeat.name, {}, first=True)
        await state.reap()
    finally:
        state._clock = clock
    assert not [g for g in state._groups if "kept:" in g]
    assert not [t for t in state._topics if t.startswith("kept:")]
    await socket.close()


class Away(MemoryState):
    async def beat(self, *args: Any, **kwargs: Any) -> bool:
        raise StateError("away")


async def test_in_an_outage_a_topic_that_everybody_left_is_forgotten() -> None:
    node = Node()
    node.heartbeat.state = Away()
    node.heartbeat.start()
    await node.heartbeat.ready()
    assert node.heartbeat.is_down
    tracker = node.part(Trackers).of(Presence)
    for i in range(30):
        await tracker.track(None, f"t{i}", "ada", {})
        await tracker.untrack(None, f"t{i}", "ada")
    await tracker.beat(node.heartbeat)
    assert not tracker._topics
    await node.close()


async def test_work_for_a_topic_does_not_run_in_the_context_of_its_cause() -> None:
    language: contextvars.ContextVar[str] = contextvars.ContextVar("language")
    seen: list[tuple[str, str | None]] = []

    class Listening(MemoryState):
        async def append(self, *args: Any) -> Any:
            seen.append(("append", language.get(None)))
            return await super().append(*args)

        async def open(self, *args: Any) -> Any:
            seen.append(("open", language.get(None)))
            return await super().open(*args)

        async def since(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(("since", language.get(None)))
            return await super().since(*args, **kwargs)

    node = Node()
    node.heartbeat.state = node.pubsub.sequencer._state = Listening()
    language.set("de")
    await node.pubsub.sequencer.catch_up(
        "t", History(), RecoveryRequest(None, frozenset())
    )
    message = Broadcast("t", "e", json.encode_payload({}))
    await node.pubsub.sequencer.append(History(), message)
    await node.pubsub.sequencer._state.append([item("1", "t")])
    await node.pubsub.sequencer._streams["t"].fill()
    own = [what for what, heard in seen if heard is None]
    assert own == ["open", "append", "since"]
