"""The link to the layer: listened to again, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from phx_protocol.node import node
from phx_protocol.node.node import Node
from phx_protocol.pubsub import group_name, link
from tests.node.layers import pubsub

__all__ = ["pubsub"]


class Slow:
    """A layer that needs its time for each group, and is stuck where the test wants it."""

    def __init__(self) -> None:
        self.stuck = asyncio.Event()
        self.stuck.set()

    async def new_channel(self) -> str:
        return "specific.slow"

    async def receive(self, channel: str) -> Any:
        await asyncio.Future()

    async def group_add(self, group: str, channel: str) -> None:
        await self.stuck.wait()
        await asyncio.sleep(0.02)

    async def group_discard(self, group: str, channel: str) -> None: ...


async def test_a_long_line_of_new_topics_is_no_failure_as_long_as_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "READY_TIMEOUT", 0.3)
    slow = Slow()
    monkeypatch.setattr(node, "get_channel_layer", lambda alias: slow)
    pubsub = Node()
    topics = [f"room:{n}" for n in range(40)]  # more than twice the time that one waits
    await asyncio.gather(*map(pubsub.ready, topics))
    assert all(topic in pubsub.link.groups for topic in topics)
    assert not pubsub.link.is_failing
    slow.stuck.clear()
    await pubsub.ready("room:stuck")
    assert pubsub.link.is_failing
    slow.stuck.set()
    await pubsub.close()


async def until_reached(pubsub: Node) -> None:
    """Wait until a message over the layer arrives at `pubsub`."""
    arrived = asyncio.Event()
    pubsub.rpc.on_cast("ping", lambda body: arrived.set())
    while not arrived.is_set():
        address = await pubsub.address()
        assert address is not None
        await pubsub.rpc.cast(address, "ping", {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await arrived.wait()


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), RuntimeError("once"), TimeoutError()]
)
async def test_a_layer_that_gives_up_is_listened_to_again(
    pubsub: Node, error: BaseException
) -> None:
    await until_reached(pubsub)
    pubsub.link.layer.errors.append(error)
    async with asyncio.timeout(10):
        await until_reached(pubsub)
    assert not pubsub.link.layer.errors and not pubsub.link.is_failing


async def test_a_layer_that_forgot_the_channel_gets_another_with_all_groups(
    pubsub: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FORGOTTEN", 1)
    await pubsub.ready("room:1")
    before = await pubsub.address()
    assert before is not None
    pubsub.link.layer.forgotten.add(before)
    await pubsub.link.send(before, {"type": "what wakes it"})
    async with asyncio.timeout(10):
        while await pubsub.address() == before:
            await asyncio.sleep(0)
        await until_reached(pubsub)
    members = pubsub.link.layer.groups[group_name("room:1")]
    assert await pubsub.address() in members


async def test_a_layer_that_is_away_leaves_a_node_its_address(
    pubsub: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long-poll clients have it in their tokens."""
    monkeypatch.setattr(link, "FORGOTTEN", 1)
    await until_reached(pubsub)
    before = await pubsub.address()
    tries = 0
    working = pubsub.link.layer.receive

    async def away(channel: str) -> Any:
        nonlocal tries
        tries += 1
        raise ConnectionError

    monkeypatch.setattr(pubsub.link.layer, "receive", away)
    await pubsub.link.send(before, {"type": "what wakes it"})
    async with asyncio.timeout(10):
        while tries < 3:
            await asyncio.sleep(0)
        monkeypatch.setattr(pubsub.link.layer, "receive", working)
        await until_reached(pubsub)
    assert await pubsub.address() == before
