"""Nodes as several processes have them, on a real Redis and on each of its layers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol.node.node import Node

LAYERS = {
    "redis": "phx_protocol.layers.RedisLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
Nodes = tuple[Node, Node]


@pytest.fixture(params=LAYERS)
async def nodes(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Nodes]:
    """Two nodes as two processes have them; the second one can be asked."""
    backend = {"BACKEND": LAYERS[request.param], "CONFIG": {"hosts": [redis_url]}}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        one, two = Node(), Node()
        for node in (one, two):
            node.keep_alive("the test")
            assert await node.address()
        yield one, two
        for node in (one, two):
            await node.close()


async def ask(nodes: Nodes, name: str, body: dict[str, Any], **kwargs: Any) -> Any:
    one, two = nodes
    address = await two.address()
    assert address is not None
    limits = {"ack_timeout": 3.0, "timeout": 5.0, **kwargs}
    return await one.rpc.call(address, name, body, **limits)
