"""What joins read of a history: once for all that are there at the same time."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from phx_protocol.history.recovery import Recovery, RecoveryRequest
from phx_protocol.node.node import Node
from tests.history.rooms import LARGE, Counting, counting
from tests.support.state import item

#: of a client that is new
NEW = RecoveryRequest(None, frozenset(), True)
FIFTY = dataclasses.replace(LARGE, rewind=50)


async def joins(node: Node, count: int, request: RecoveryRequest = NEW) -> Any:
    catch_up = node.pubsub.sequencer.catch_up  # type: ignore[attr-defined]
    return await asyncio.gather(*(catch_up("t", FIFTY, request) for _ in range(count)))


def numbers(recovery: Recovery) -> list[int]:
    return [kept.n for kept in recovery.missed]


async def with_broadcasts(count: int, payload: int = 0) -> tuple[Node, Counting]:
    node, state = await counting()
    await state.append([item(f"{i}", "t", 1000, payload=payload) for i in range(count)])
    return node, state


async def test_newcomers_share_where_the_rewind_begins_and_what_is_read() -> None:
    node, state = await with_broadcasts(200, payload=2**14)
    found = await joins(node, 100)
    assert all(one.rewound and numbers(one) == [*range(151, 201)] for one in found)
    assert {one.position.n for one in found} == {150}
    assert len({id(kept) for one in found for kept in one.missed}) == 50
    assert state.rewinds == 1
    assert state.reads == 4  # each page has 16 of them
    shared = node.pubsub.sequencer._streams["t"].shared  # type: ignore[attr-defined]
    assert not shared._kept and shared._asked is None  # nobody waits for it any more


async def test_newcomers_and_those_that_come_back_share_pages() -> None:
    node, state = await with_broadcasts(200)
    (first,) = await joins(node, 1)
    back = RecoveryRequest(first.position._replace(n=150), frozenset(), True)
    state.reads = 0
    found = [*await asyncio.gather(joins(node, 5), joins(node, 5, back))]
    assert [one.recovered for some in found for one in some] == [False] * 5 + [True] * 5
    assert all(numbers(one) == [*range(151, 201)] for some in found for one in some)
    assert state.reads == 1


async def test_a_rewind_that_cannot_be_read_fails_those_joins_and_nothing_else() -> (
    None
):
    node, state = await with_broadcasts(3)
    state.fails = True
    found = await joins(node, 20)
    assert not any(one.rewound or one.recovered for one in found)
    assert (
        state.rewinds == 1
    )  # the others that waited for it do not wait for another one
    assert not node.heartbeat.outage.is_on
    state.fails = False
    assert [one.rewound for one in await joins(node, 1)] == [True]


async def test_what_goes_while_it_is_read_leaves_no_gap() -> None:
    node, state = await with_broadcasts(200, payload=2**14)
    stream_since = state.since

    async def since(topic: str, n: int, ttl: float, **how: Any) -> Any:
        page = await stream_since(topic, n, ttl, **how)
        if n == 150:  # the history now begins after the first page
            await state.append([item(f"{i}", "t", size=25) for i in range(10)])
        return page

    state.since = since  # type: ignore[method-assign]
    (found,) = await joins(node, 1)
    assert numbers(found) == [*range(186, 201)]  # 201 to 210 come live
    assert (found.rewound, found.position.n) == (True, 185)
