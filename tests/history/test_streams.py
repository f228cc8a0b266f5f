"""The streams of a node: what is read for many at once, and what an outage of the state does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from msgspec import Raw

from phx_protocol import abroadcast
from phx_protocol.exceptions import StateError, StateRefused
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.history.streams import BROKEN, READS, PendingAppend
from phx_protocol.node.heartbeat import Heartbeat
from phx_protocol.node.node import get_node
from phx_protocol.pubsub import message
from phx_protocol.wire.messages import Broadcast
from tests.history.rooms import CLAIM, LARGE, Connect, client, counting, frames
from tests.support.state import item

__all__ = ["client"]


def fail(beat: Heartbeat, error: StateError) -> None:
    with contextlib.suppress(StateError), beat.state_call():
        raise error


async def test_one_refusal_of_the_state_is_not_an_outage(client: Connect) -> None:
    socket = await client()
    await socket.join("room:refused", CLAIM)
    beat = get_node().heartbeat
    fail(beat, StateRefused("WRONGTYPE"))
    assert not beat.is_down
    await abroadcast("room:refused", "msg", {"i": 1})
    assert (await frames(socket, "room:refused", 1))[0][1].endswith("-1")


async def test_a_state_that_failed_once_is_asked_again_at_once(
    client: Connect,
) -> None:
    socket = await client()
    await socket.join("room:hiccup", CLAIM)
    beat = get_node().heartbeat
    await beat.ready()
    fail(beat, StateError("gone"))
    assert beat.is_down
    async with asyncio.timeout(0.9):  # not with the next beat only, nor a second later
        while beat.is_down:
            await asyncio.sleep(0)


async def test_a_process_that_does_not_keep_its_broadcasts_is_noticed(
    client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose settings do not lead to the channel class, say."""
    socket = await client()
    await socket.join("room:worker", CLAIM)
    for name in ("msg", "other"):
        item = message.pack_item(Broadcast("room:worker", name, Raw(b"{}")))
        await get_node().take(message.pack([item], "another node"))
    assert [f[3] for f in await frames(socket, "room:worker", 2)] == ["msg", "other"]
    (record,) = caplog.records
    assert "'msg' came from a process that did not keep it" in record.getMessage()


async def test_clients_that_come_back_at_once_share_what_is_read() -> None:
    node, state = await counting()
    many = [item(f"{i}", "t", size=1000, payload=2**14) for i in range(200)]
    positions = await state.append(many)
    claims = [RecoveryRequest(p, frozenset()) for p in positions[:100]]
    found = await asyncio.gather(
        *(node.pubsub.sequencer.catch_up("t", LARGE, claim) for claim in claims)
    )
    assert [len(f.missed) for f in found] == list(range(199, 99, -1))
    held = {id(kept) for recovery in found for kept in recovery.missed}
    assert len(held) == 199  # and none of them a hundred times
    # each page has 16 of them; who comes first reads nearly all
    assert state.reads < 30
    assert not node.pubsub.sequencer._streams["t"].shared._kept


async def test_of_many_topics_only_some_are_read_at_once() -> None:
    node, state = await counting()
    topics = [f"t{i}" for i in range(50)]
    await state.append([item(topic, topic) for topic in topics])
    heads = await state.heads(dict.fromkeys(topics, 60.0))
    claims = [RecoveryRequest(head._replace(n=0), frozenset()) for head in heads]
    found = await asyncio.gather(
        *map(node.pubsub.sequencer.catch_up, topics, [LARGE] * 50, claims)
    )
    assert all(recovery.recovered for recovery in found)
    assert state.most_at_once == READS


async def test_a_reading_that_takes_too_long_fails_those_joins_and_nothing_else() -> (
    None
):
    node, state = await counting()
    position, *_ = await state.append([item("1", "t"), item("2", "t")])
    claim = RecoveryRequest(position, frozenset())
    state.fails = True
    found = await asyncio.gather(
        *(node.pubsub.sequencer.catch_up("t", LARGE, claim) for _ in range(50))
    )
    assert not any(recovery.recovered for recovery in found)
    assert not node.heartbeat.outage.is_on
    assert state.reads == 1  # the others that waited for it do not wait for another one
    state.fails = False
    assert (await node.pubsub.sequencer.catch_up("t", LARGE, claim)).recovered


async def test_counting_a_history_does_not_read_it() -> None:
    node, state = await counting()
    await state.append([item(f"{i}", "t") for i in range(3)])
    assert (await state.kept("t", 60))[1] == 3
    assert state.reads == 0


async def test_a_long_outage_does_not_remember_every_topic() -> None:
    node, state = await counting()
    state.append = state.heads = refuse  # type: ignore[method-assign, assignment]
    (before,) = [await state.open("t", 60)]
    for some in range(0, 3 * BROKEN, BROKEN // 2):
        names = [f"t{i}" for i in range(some, some + BROKEN // 2)]
        await keep(node, *names)
        assert len(node.pubsub.sequencer._broken) <= BROKEN
    del state.append, state.heads
    node.heartbeat.outage.report(None)
    await keep(node, "another")
    assert await state.heads({"t": 60.0}) != [before]


async def keep(node: Any, *topics: str) -> None:
    broadcast, done = Broadcast("", "", Raw(b"{}")), node.loop.create_future()
    items = [item(topic, topic) for topic in topics]
    batch = [PendingAppend(item, broadcast, done) for item in items]
    await node.pubsub.sequencer._keep(batch)


async def refuse(*args: Any) -> Any:
    raise StateError("away")
