"""Which connections count for a name, over two nodes that share a state."""

from __future__ import annotations

import asyncio

import pytest

from phx_protocol import StateError
from phx_protocol.node.census import Census
from phx_protocol.node.node import get_node


async def ids(census: Census, name: str, id: str) -> list[str]:
    return [member.id for member in await census.enter(name, id)]


async def test_members_are_in_the_order_in_which_they_came() -> None:
    census = get_node().part(Census)
    assert await ids(census, "ada", "b") == ["b"]
    assert await ids(census, "ada", "a") == ["b", "a"]
    assert await ids(census, "bob", "c") == ["c"]


async def test_who_leaves_counts_for_nothing_any_more() -> None:
    census = get_node().part(Census)
    for name in ("ada", "an address"):
        await census.enter(name, "a")
    census.closed("a")
    census.closed("unknown")
    await asyncio.sleep(0.01)
    for name in ("ada", "an address"):
        assert await ids(census, name, "b") == ["b"]


async def test_a_name_may_be_any_text() -> None:
    census = get_node().part(Census)
    for name in ("", "\n", "ü☃", "user\n7", "x" * 1000):
        assert await ids(census, name, "a") == ["a"]


async def test_what_could_not_be_dropped_is_dropped_with_the_next_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = get_node()
    census, state = node.part(Census), node.heartbeat.state
    await census.enter("ada", "a")

    async def fails(*args: object) -> None:
        raise StateError("the state is away")

    with monkeypatch.context() as away:
        away.setattr(state, "change", fails)
        census.closed("a")
        await asyncio.sleep(0.01)
    await node.heartbeat.beat()
    await census.beat()
    assert await ids(census, "ada", "b") == ["b"]
