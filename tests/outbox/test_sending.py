"""A batch on its way: nothing overtakes what fails, and what can never be sent is set aside."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from phx_protocol.exceptions import BroadcastError, StateError
from phx_protocol.node.node import Node, get_node
from phx_protocol.outbox.rows import Waiting
from phx_protocol.outbox.sending import CHUNK, TRIES, Outcome, Sender
from phx_protocol.state import Row
from phx_protocol.wire.messages import Broadcast

pytestmark = pytest.mark.usefixtures("outbox_channels")
Hear = Callable[..., Any]


def rows(topic: str, *numbers: int, size: int = 0) -> list[Waiting]:
    is_kept = not topic.startswith("room")
    return [
        Waiting(
            n,
            0,
            Broadcast(topic, "kept", msgspec.Raw(b'{"n": %d}' % n), sent_at=1.0),
            size,
            Row("source", n) if is_kept else None,
        )
        for n in numbers
    ]


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    yield get_node()
    await get_node().close()


async def sent(node: Node, *batch: Waiting, sender: Sender | None = None) -> Outcome:
    sender = sender or Sender(node)
    return await sender.send([*batch], time.monotonic() + 60)


@pytest.mark.parametrize("topic", ["room:1", "kept:1"])
async def test_a_batch_of_any_length_is_sent_in_order(
    hearing: Hear, node: Node, topic: str
) -> None:
    heard = await hearing(topic)
    numbers = range(1, 3 * CHUNK)
    outcome = await sent(node, *rows(topic, *numbers))
    assert outcome.sent == [*numbers] and not outcome.unsent and not outcome.aside
    assert heard.numbers() == [*numbers]


@pytest.mark.parametrize("topic", ["room:1", "kept:1"])
async def test_after_the_deadline_nothing_is_sent(
    hearing: Hear, node: Node, topic: str
) -> None:
    heard = await hearing(topic)
    outcome = await Sender(node).send(rows(topic, 1, 2), time.monotonic() - 1)
    assert outcome.unsent == {1: 0} and not outcome.sent and not heard.broadcasts


async def test_a_history_refuses_rows_that_it_has_had(
    hearing: Hear, node: Node
) -> None:
    heard = await hearing("kept:1")
    await sent(node, *rows("kept:1", 1, 2))
    outcome = await sent(node, *rows("kept:1", 1, 2, 3))
    assert outcome.sent == [1, 2, 3]
    assert heard.numbers() == [1, 2, 3]


async def test_rows_of_a_topic_wait_for_one_that_fails_and_other_topics_do_not(
    hearing: Hear, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = await hearing("room:1", "room:2")
    publish: Any = node.link.publish_together

    async def failing(broadcasts: Any) -> None:
        if broadcasts[0].topic == "room:1":
            raise BroadcastError("no")
        await publish(broadcasts)

    monkeypatch.setattr(node.link, "publish_together", failing)
    batch = rows("room:1", 1, 2) + rows("room:2", 3)
    outcome = await sent(node, *batch)
    assert outcome.sent == [3] and outcome.unsent == {1: 0}
    assert heard.numbers() == [3]


async def test_a_row_that_always_fails_is_set_aside_after_some_tries(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(broadcasts: Any) -> None:
        raise ValueError("it has a <script> in it")

    monkeypatch.setattr(node.link, "publish_together", failing)
    sender = Sender(node)
    outcomes = [
        await sent(node, *rows("room:1", 1), sender=sender) for _ in range(TRIES)
    ]
    assert [bool(one.aside) for one in outcomes] == [False] * (TRIES - 1) + [True]
    assert "<script>" in outcomes[-1].aside[1]


async def test_an_outage_is_no_fault_of_a_row(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(items: Any) -> Any:
        raise StateError("away")

    monkeypatch.setattr(node.heartbeat.state, "append", away)
    sender = Sender(node)
    for _ in range(2 * TRIES):
        outcome = await sent(node, *rows("kept:1", 1, 2), sender=sender)
        assert outcome.unsent == {1: 0} and not outcome.aside


async def test_a_row_that_is_too_large_is_set_aside_at_once(
    hearing: Hear, node: Node, settings: Any
) -> None:
    heard = await hearing("room:1", "kept:1")
    settings.PHX_PROTOCOL = {**settings.PHX_PROTOCOL, "MAX_BROADCAST_SIZE": 30}
    large = msgspec.Raw(b'{"n": 2, "x": "%s"}' % (b"x" * 100))
    for topic in ("room:1", "kept:1"):
        batch = rows(topic, 1, 2, 3)
        broadcast = msgspec.structs.replace(batch[1].broadcast, payload=large)
        batch[1] = batch[1]._replace(broadcast=broadcast)
        outcome = await sent(node, *batch)
        assert outcome.sent == [1, 3] and [*outcome.aside] == [2]
        assert "MAX_BROADCAST_SIZE" in outcome.aside[2]
        assert heard.numbers(topic) == [1, 3]
