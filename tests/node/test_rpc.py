"""One node asks another, over a real Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol.node.rpc import NoAnswer
from tests.support.nodes import Nodes, ask, nodes

__all__ = ["nodes"]


class Endless:
    """A call that takes for ever."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return {}


async def test_a_call_is_answered(nodes: Nodes) -> None:
    async def double(body: dict[str, Any]) -> dict[str, Any]:
        return {"n": 2 * body["n"]}

    nodes[1].rpc.on_call("double", double)
    answers = await asyncio.gather(*(ask(nodes, "double", {"n": n}) for n in range(50)))
    assert [answer["n"] for answer in answers] == [2 * n for n in range(50)]


async def test_an_answer_may_take_longer_than_the_acknowledgement(nodes: Nodes) -> None:
    async def slow(body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.4)
        return {}

    nodes[1].rpc.on_call("slow", slow)
    assert await ask(nodes, "slow", {}, ack_timeout=0.3) == {}


async def test_a_node_that_is_gone_does_not_answer(nodes: Nodes) -> None:
    one, _ = nodes
    with pytest.raises(NoAnswer):
        await one.rpc.call("specific.gone!x", "x", {}, ack_timeout=0.1, timeout=5)


async def test_an_answer_that_takes_too_long_is_none_and_the_work_is_ended(
    nodes: Nodes,
) -> None:
    work = Endless()
    nodes[1].rpc.on_call("endless", work)
    with pytest.raises(NoAnswer):
        await ask(nodes, "endless", {}, timeout=0.1)
    await asyncio.wait_for(work.ended.wait(), 2)


async def test_cancelling_a_call_cancels_the_work_in_the_other_node(
    nodes: Nodes,
) -> None:
    work = Endless()
    nodes[1].rpc.on_call("endless", work)
    asking = asyncio.create_task(ask(nodes, "endless", {}))
    await asyncio.wait_for(work.began.wait(), 2)
    asking.cancel()
    await asyncio.wait_for(work.ended.wait(), 2)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_an_answer_that_crosses_the_end_of_the_call_is_handed_over(
    nodes: Nodes,
) -> None:
    began: asyncio.Queue[None] = asyncio.Queue()
    late: asyncio.Queue[Any] = asyncio.Queue()

    async def stubborn(body: dict[str, Any]) -> dict[str, Any]:
        began.put_nowait(None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"answer": "after all"}
        return {}

    nodes[1].rpc.on_call("stubborn", stubborn)
    asking = asyncio.create_task(
        ask(nodes, "stubborn", {}, on_late_answer=late.put_nowait)
    )
    await began.get()
    asking.cancel()
    assert await asyncio.wait_for(late.get(), 2) == {"answer": "after all"}


async def test_a_request_that_crashes_is_no_answer_at_once_and_is_logged(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(body: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("crash")

    nodes[1].rpc.on_call("crash", crash)
    for name in ("crash", "nobody serves this"):
        with pytest.raises(NoAnswer, match="failed over there"):
            await ask(nodes, name, {})
    assert "RuntimeError: crash" in caplog.text


async def test_a_request_that_comes_twice_is_done_once(nodes: Nodes) -> None:
    done = []

    async def note(body: dict[str, Any]) -> dict[str, Any]:
        done.append(body)
        return {}

    one, two = nodes
    two.rpc.on_call("note", note)
    send = one.link.layer.send

    async def send_twice(channel: str, message: Any) -> None:
        await send(channel, message)
        await send(channel, message)

    one.link.layer.send = send_twice
    await ask(nodes, "note", {"n": 1})
    await ask(nodes, "note", {"n": 2})
    assert done == [{"n": 1}, {"n": 2}]


async def test_a_message_of_another_version_is_ignored_and_logged(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = nodes

    async def alive(body: dict[str, Any]) -> dict[str, Any]:
        return {}

    two.rpc.on_call("alive", alive)
    message = {"type": "phx.relay", "v": 2, "do": "ask"}
    await one.link.send(await two.address(), message)
    assert await ask(nodes, "alive", {}) == {}
    assert "was ignored: version 2" in caplog.text


@pytest.mark.parametrize(
    "message, why",
    [
        ({}, "do None"),
        ({"do": ["ask"]}, "do ['ask']"),
        ({"do": "dance"}, "do 'dance'"),
        ({"do": "ask", "id": "1", "from": 5, "name": "alive", "body": {}}, "from 5"),
        ({"do": "ask", "id": "1", "from": "a", "body": {}}, "ask with name None"),
        ({"do": "ask", "id": [], "from": "a", "name": "b", "body": {}}, "id []"),
        ({"do": "note", "name": "nobody's", "body": {}}, 'note "nobody\'s"'),
        ({"do": "note", "name": {}, "body": {}}, "note with name {}"),
        ({"do": "answer", "id": "1", "body": 7}, "answer with body 7"),
        ({"do": "cancel"}, "cancel with id None"),
        ({"do": "marked", "id": "1"}, "marked with node None"),
    ],
)
async def test_a_message_that_is_none_is_ignored_and_logged(
    nodes: Nodes, message: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    two = nodes[1]
    two.take_now({"type": "phx.relay", "v": 1, **message})
    (record,) = caplog.records
    assert "was ignored" in record.message and why in record.message
    assert record.exc_info is None
    await asyncio.sleep(0)


async def test_a_message_that_arrives_at_the_very_end_is_not_a_failure_of_the_layer(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state takes its time to forget the node, and somebody still writes to it."""
    one, two = nodes
    leaving, may_leave = asyncio.Event(), asyncio.Event()
    leave = two.heartbeat.state.leave

    async def slow(name: str) -> None:
        leaving.set()
        await may_leave.wait()
        await leave(name)

    monkeypatch.setattr(two.heartbeat.state, "leave", slow)
    two.heartbeat.start()
    await two.heartbeat.ready()
    address, after = await two.address(), await one.link.layer.new_channel()
    assert address is not None
    closing = asyncio.create_task(two.close())
    await leaving.wait()
    await one.link.send(address, {"type": "unknown"})
    await one.link.send(after, {"type": "after"})
    await one.link.layer.receive(after)
    await one.link.send(
        after, {"type": "after"}
    )  # and once more, as `two` had its turn
    await one.link.layer.receive(after)
    assert two.link.outage.failures == 0
    may_leave.set()
    await closing
