from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from phx_protocol.node.node import get_node
from phx_protocol.node.part import PARTS
from phx_protocol.revocations.index import Revocations


@pytest.fixture(autouse=True)
def _tokens_can_be_revoked() -> Iterator[None]:
    PARTS.append(Revocations)
    yield
    PARTS.remove(Revocations)


@pytest_asyncio.fixture(autouse=True)
async def _nothing_is_read_any_more() -> AsyncIterator[None]:
    """A table that is read while the test ends cannot be flushed."""
    yield
    node = get_node()
    await node.close()
    while reading := node.part(Revocations)._reading:
        await reading
