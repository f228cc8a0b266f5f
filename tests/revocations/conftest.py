from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from phx_protocol.node.node import all_nodes, get_node
from phx_protocol.node.part import PARTS
from phx_protocol.revocations.index import Revocations


@pytest.fixture(autouse=True)
def _tokens_can_be_revoked() -> Iterator[None]:
    PARTS.append(Revocations)
    old = all_nodes()  # of the loops in threads, which outlive a test
    for node in old:
        node.part(Revocations)
    yield
    PARTS.remove(Revocations)
    for node in old:
        node._parts.pop(Revocations, None)


@pytest_asyncio.fixture(autouse=True)
async def _nothing_is_read_any_more() -> AsyncIterator[None]:
    """A table that is read while the test ends cannot be flushed."""
    yield
    node = get_node()
    await node.close()
    while reading := node.part(Revocations)._reading:
        await reading
