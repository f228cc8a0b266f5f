"""Batches: which rows are set aside, and which of them hold up others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from channels.layers import InMemoryChannelLayer

from phx_protocol.exceptions import StateError
from phx_protocol.node.node import Node
from phx_protocol.outbox.hints import group_of
from phx_protocol.outbox.rows import Waiting
from phx_protocol.outbox.sending import TOPICS, TRIES, Outcome, Sender
from phx_protocol.pubsub.message import group_name
from phx_protocol.pubsub.publisher import Publisher
from phx_protocol.state import Row
from phx_protocol.wire.messages import Broadcast


def row(
    id: int, topic: str, *, payload: bytes = b"{}", kept: Row | None = None
) -> Waiting:
    broadcast = Broadcast(topic, "said", msgspec.Raw(payload), committed_at=0.0)
    return Waiting(id, 0, broadcast, 10, kept)


async def send(sender: Sender, *rows: Waiting) -> Outcome:
    return await sender.send(rows, time.monotonic() + 30)


class Layer:
    """It counts how many calls run at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.sent: list[str] = []

    async def group_send(self, group: str, message: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        self.sent += [item["topic"] for item in message["items"]]


def send_to(node: Node, layer: Any) -> None:
    link: Any = node.link
    link.publish_together = Publisher(layer, "me", node.link.report).publish_together


async def test_a_row_is_set_aside_though_other_batches_are_sent_between_its_tries(
    database: str, node: Node
) -> None:
    sender, link = Sender(node), node.link
    publish: Any = link.publish_together

    async def failing(broadcasts: Any) -> None:
        if broadcasts[0].topic == "room:bad":
            raise ValueError("bad")
        await publish(broadcasts)

    link.publish_together = failing  # type: ignore[method-assign]
    for n in range(TRIES):
        assert not (await send(sender, row(100 + n, "room:good"))).aside
        outcome = await send(sender, row(1, "room:bad"))
        assert bool(outcome.aside) == (n == TRIES - 1)
    assert outcome.aside == {1: "ValueError: bad"}


async def test_a_row_that_is_no_text_does_not_hold_up_those_of_its_topic(
    database: str, node: Node
) -> None:
    layer = Layer()
    send_to(node, layer)
    bad = row(2, "room:1", payload=b'{"a":"\xff"}')
    outcome = await send(Sender(node), row(1, "room:1"), bad, row(3, "room:1"))
    assert outcome.sent == [1, 3] and "UTF-8" in outcome.aside.pop(2)
    assert not outcome.aside and not outcome.unsent
    assert layer.sent == ["room:1", "room:1"]


async def test_the_layer_is_not_asked_for_all_topics_at_the_same_time(
    database: str, node: Node
) -> None:
    layer = Layer()
    send_to(node, layer)
    outcome = await send(Sender(node), *(row(n, f"room:{n}") for n in range(500)))
    assert len(outcome.sent) == len(layer.sent) == 500
    assert layer.most <= TOPICS


async def test_rows_of_a_server_that_this_process_does_not_know_wait(
    database: str, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: Any = node.heartbeat.state

    async def refusing(items: Any) -> Any:
        return [None] * len(items)

    state.append = refusing
    monkeypatch.setattr(node.placement, "is_known", lambda name: False)
    sender = Sender(node)
    for _ in range(2 * TRIES):
        outcome = await send(sender, row(1, "kept:1", kept=Row("me", 1)))
        assert not outcome.aside and [*outcome.unsent] == [1]


async def test_rows_wait_while_the_state_fails(database: str, node: Node) -> None:
    state: Any = node.heartbeat.state

    async def failing(*args: Any, **kwargs: Any) -> Any:
        raise StateError("away")

    state.append = state.beat = state.nodes = failing
    monkey: Any = node.heartbeat
    monkey.outage.report(StateError("away"))
    sender = Sender(node)
    for _ in range(2 * TRIES):
        outcome = await send(sender, row(1, "kept:1", kept=Row("me", 1)))
        assert not outcome.aside and [*outcome.unsent] == [1]


@pytest.mark.parametrize("database", ["default", "käse db", "x" * 120, "a:b"])
def test_the_groups_of_hints_have_names_that_layers_take(database: str) -> None:
    layer: Any = InMemoryChannelLayer()
    names = {group_name(group_of((database, p))) for p in (None, 1, 2)}
    assert len(names) == 3 and all(map(layer.require_valid_group_name, names))
