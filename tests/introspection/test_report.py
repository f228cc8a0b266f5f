"""A node whose clients have long names for everything sends a short answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import Socket
from phx_protocol import introspection as look
from phx_protocol.introspection.report import ANSWER
from phx_protocol.node.node import Node, get_node
from phx_protocol.testing import connect
from phx_protocol.wire import json
from tests.support.nodes import LAYERS
from tests.support.rooms import OpenRoom

CLIENTS, TOPICS = 4, 40
LONG = "\N{MUSICAL SYMBOL G CLEF}" * 8000


class LongSocket(Socket):
    channels = {"*": OpenRoom}
    max_topic_length = 9000


@pytest.fixture
async def asker(redis_url: str) -> AsyncIterator[Node]:
    """Another process; in this one are clients that have joined topics of 32 kB."""
    config = {"hosts": [redis_url], "prefix": "answers"}
    backend = {"BACKEND": LAYERS["redis"], "CONFIG": config}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        node = Node()
        sockets = [await connect(LongSocket, wire=False) for _ in range(CLIENTS)]
        for n in range(TOPICS):
            await asyncio.gather(*(socket.join(f"{n}:{LONG}") for socket in sockets))
        yield node
        for socket in sockets:
            await socket.close()
        await node.close()
        await get_node().close()


async def test_a_node_leaves_out_long_topics_of_its_answer(asker: Node) -> None:
    address = await get_node().address()
    assert address is not None

    async def ask(name: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await asker.rpc.call(address, name, body, ack_timeout=5, timeout=5)
        assert len(json.encode(answer)) <= ANSWER
        return answer

    answer = await ask("list_sockets", {"topic": None, "user": None, "limit": 1000})
    for socket in answer["sockets"]:
        assert len(socket["topics"]) + socket["more_topics"] == TOPICS
        assert socket["topics"] and socket["more_topics"]
    assert len(answer["sockets"]) == CLIENTS and not answer["left_out"]
    some = await ask("list_sockets", {"topic": f"7:{LONG}", "user": None, "limit": 1})
    assert len(some["sockets"]) == 1
    assert await ask("busiest_topics", {"limit": 1000})


async def test_many_long_topics_are_asked_about_in_portions(
    asker: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    survey = look.queries._survey

    async def noted(name: str, body: dict[str, Any]) -> Any:
        sizes.append(len(json.encode(body)))
        return await survey(name, body)

    monkeypatch.setattr(look.queries, "_survey", noted)
    await get_node().heartbeat.ready()
    topics = [f"{n}:{LONG}" for n in range(TOPICS)]
    described = await look.adescribe_topics([*topics, "nobody is there"])
    assert list(described) == topics
    assert max(sizes) <= 600_000
