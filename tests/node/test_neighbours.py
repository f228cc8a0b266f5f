"""What a process knows of those beside it, each of which keeps its state in memory."""

from __future__ import annotations

import json

import pytest

from phx_protocol.node import neighbours
from phx_protocol.node.neighbours import known_counts, known_nodes
from phx_protocol.node.node import get_node
from phx_protocol.node.rpc import NoAnswer
from tests.support.commands import Two, run, two
from tests.support.ws_client import Client

__all__ = ["two"]


async def test_counts_of_all_processes_are_added(two: Two) -> None:
    async with Client(two.one.url) as ada, Client(two.other.url) as bob:
        for client in (ada, bob):
            await client.join("room:added")
        while True:  # counts are at most a second old
            _, out, _ = await run(two, "phx_topics", "room:added", "--json")
            found = json.loads(out)
            if found and found[0]["subscribers"] == 2:
                break
        assert len(found[0]["nodes"]) == 2


async def test_without_neighbours_the_own_state_is_what_is_known() -> None:
    node = get_node()
    await node.heartbeat.ready()
    assert set(await known_nodes(node)) == {node.heartbeat.name}
    assert await known_counts(node) == {}
    await node.close()


async def test_a_neighbour_that_does_not_answer_is_left_out_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = get_node()

    async def some() -> list[str]:
        return ["silent", "answers"]

    async def call(address: str, *args: object, **limits: object) -> dict[str, object]:
        if address == "silent":
            raise NoAnswer("no answer in time")
        return {"nodes": {"other": {"pid": 1}}, "counts": {"room:1": {"other": 3}}}

    monkeypatch.setattr(node.link, "neighbours", some)
    monkeypatch.setattr(node.rpc, "call", call)
    assert (await known_nodes(node))["other"] == {"pid": 1}
    assert await known_counts(node) == {"room:1": {"other": 3}}
    assert "did not answer: no answer in time" in caplog.text
    assert neighbours.KNOWN in node.rpc._handlers
    await node.close()
