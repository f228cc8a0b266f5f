"""A layer whose connection is cut, and the node that listens to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from phx_protocol.node.node import PubSub, get_pubsub


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
async def pubsub() -> AsyncIterator[PubSub]:
    node = get_pubsub()
    node.layer = node.groups.layer = node.publisher.layer = Layer()
    node.is_alone = False
    node.hold("the test")  # else it ends and starts again when nobody is there
    yield node
    await node.close()
