"""A node that sends much waits for those who listen, and for nobody for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.test import override_settings
from msgspec import Raw

from phx_protocol import EncodeError, abroadcast
from phx_protocol.node import pacer
from phx_protocol.node.rpc import LARGEST, NODES, NoAnswer
from phx_protocol.pubsub.message import group_name
from phx_protocol.wire.messages import Broadcast
from tests.support.nodes import Nodes, ask, nodes

__all__ = ["nodes"]

SIZE = 10_000


@pytest.fixture(autouse=True)
def _little_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacer, "AHEAD", 4 * SIZE)
    monkeypatch.setattr(pacer, "MARK_TIMEOUT", 30.0)


#: layers that a node receives from, and sends to one message after the other
RECEIVED = pytest.mark.parametrize("nodes", ["pubsub", "core"], indirect=True)


def send(nodes: Nodes, count: int) -> asyncio.Future[Any]:
    text = b'{"text":"%s"}' % (b"x" * SIZE)
    # one topic each: what waits for a topic travels together
    broadcasts = (Broadcast(f"room:{n}", "event", Raw(text)) for n in range(count))
    return asyncio.gather(*(nodes[0].link.publisher.publish(b) for b in broadcasts))


@RECEIVED
async def test_a_node_that_takes_nothing_is_not_sent_more(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = nodes
    await two.link.groups.add(NODES)
    await send(nodes, 20)  # by now it is known that `two` listens
    gate, stuck = asyncio.Event(), asyncio.Event()
    await two.link.groups.add("room:0")

    async def take_turns() -> None:
        stuck.set()
        await gate.wait()

    monkeypatch.setattr(two.pubsub, "yield_to_loop", take_turns)
    sent = 0
    group_send = one.link.layer.group_send

    async def counted(group: str, message: Any) -> None:
        nonlocal sent
        sent += message["type"] == "phx.broadcast"
        await group_send(group, message)

    monkeypatch.setattr(one.link.layer, "group_send", counted)
    done = send(nodes, 20)
    await stuck.wait()
    await asyncio.wait({done}, timeout=0.3)
    assert not done.done() and sent <= 7  # what was ahead, and as much again
    gate.set()
    await done
    assert sent == 20


async def test_nobody_waits_for_ever_for_a_mark_that_is_lost(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = nodes
    await two.link.groups.add(NODES)
    await send(nodes, 20)
    monkeypatch.setattr(pacer, "MARK_TIMEOUT", 0.1)
    group_send = one.link.layer.group_send

    async def lossy(group: str, message: Any) -> None:
        if group != group_name(NODES):
            await group_send(group, message)

    monkeypatch.setattr(one.link.layer, "group_send", lossy)
    await send(nodes, 20)
    assert caplog.text.count("has not answered in") == 1
    monkeypatch.undo()
    await send(nodes, 2)


@RECEIVED
async def test_a_node_that_sends_little_sends_no_mark(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    group_send = nodes[0].link.layer.group_send

    async def noted(group: str, message: Any) -> None:
        sent.append(message["type"])
        await group_send(group, message)

    monkeypatch.setattr(nodes[0].link.layer, "group_send", noted)
    await send(nodes, 1)
    assert sent == ["phx.broadcast"]


@pytest.mark.parametrize("payload", [{"a": "x" * 1000}, {"a": "é" * 500}, b"x" * 1000])
async def test_a_broadcast_that_is_too_large_is_refused_where_it_is_sent(
    payload: Any,
) -> None:
    with override_settings(PHX_PROTOCOL={"MAX_BROADCAST_SIZE": 1000}):
        with pytest.raises(EncodeError, match="MAX_BROADCAST_SIZE is 1000"):
            await abroadcast("room:1", "event", payload)
        with pytest.raises(EncodeError, match="MAX_BROADCAST_SIZE"):
            await abroadcast("room:" + "é" * 500, "event", {})
        await abroadcast("room:1", "event", b"x" * 900)


async def test_a_question_and_an_answer_that_are_too_large_are_no_answer(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def much(body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * LARGEST}

    nodes[1].rpc.on_call("much", much)
    with pytest.raises(NoAnswer, match="failed over there"):
        await ask(nodes, "much", {})
    assert "the answer to another node's 'much'" in caplog.text
    with pytest.raises(NoAnswer, match="is too large"):
        await ask(nodes, "much", {"text": "x" * LARGEST})


@pytest.mark.parametrize("body", ['"\\' * (2 * 1024 * 1024), "\x00" * 4 * 1024 * 1024])
async def test_the_size_of_a_message_is_counted_as_the_layer_sends_it(
    nodes: Nodes, body: str
) -> None:
    """A POST of a long-poll client, or what a poll has for it."""

    async def echo(asked: dict[str, Any]) -> dict[str, Any]:
        return asked

    nodes[1].rpc.on_call("echo", echo)
    assert await ask(nodes, "echo", {"body": body}, ack_timeout=20) == {"body": body}
