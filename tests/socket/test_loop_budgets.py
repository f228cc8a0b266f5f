"""What the large payloads of all clients of an event loop share: the memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import msgspec
import pytest

from phx_protocol.socket import loop_budgets as module
from phx_protocol.socket.loop_budgets import loop_budgets, room, weight
from phx_protocol.wire import json
from tests.hostile.payloads import PAYLOADS


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_takes_no_more_memory_than_it_weighs(name: str) -> None:
    text = PAYLOADS[name]().encode()
    tracemalloc.start()
    try:
        value = json.decode(text)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value and taken <= 1.2 * weight(text)


async def test_payloads_of_all_clients_are_decoded_as_far_as_there_is_room(
    monkeypatch: Any,
) -> None:
    large = msgspec.Raw(b"[%b]" % b",".join([b"[]"] * 300_000))
    monkeypatch.setattr(module, "ONE_BY_ONE_AFTER", 0.01)
    entered = []

    async def enter(payload: Any) -> None:
        async with room(payload):
            entered.append(payload)

    async with room(large):
        beside = asyncio.create_task(enter(large))
        await enter(msgspec.Raw(b"[]"))
        await asyncio.sleep(0)
        assert len(entered) == 1
        await beside  # after ONE_BY_ONE_AFTER it is decoded all the same
    assert len(entered) == 2
    async with room(large):  # and what it took is given back
        pass
    assert loop_budgets().memory._taken == loop_budgets().one_by_one._taken == 0
