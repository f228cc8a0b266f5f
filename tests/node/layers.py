"""A layer whose connection is cut, and the node that listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from phx_protocol.node import node
from phx_protocol.node.node import Node


class Layer(InMemoryChannelLayer):
    """One of another process, as far as the node can tell; it fails as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self.forgotten: set[str] = set()

    async def receive(self, channel: str) -> Any:
        if channel in self.forgotten:
            raise KeyError(channel)
        message = await super().receive(channel)
        if self.errors:
            raise self.errors.pop(0)
        return message


@pytest.fixture
async def pubsub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(node, "get_channel_layer", lambda alias: Layer())
    monkeypatch.setattr(node, "is_in_memory", lambda layer: False)
    pubsub = node._nodes[asyncio.get_running_loop()] = Node()
    pubsub.keep_alive("the test")  # else it ends and starts again when nobody is there
    yield pubsub
    await pubsub.close()
