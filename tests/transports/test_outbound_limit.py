"""How much may wait for one client, and for how long."""

from __future__ import annotations

import asyncio
import gc
import weakref

from phx_protocol.transports.outbound_limit import OutboundLimit

LIMITS = {"bytes": 10, "seconds": 0.01, "hard_bytes": 100}


class Client:
    def __init__(self) -> None:
        self.waiting = 0
        self.overflows = asyncio.Event()
        self.limit = OutboundLimit(LIMITS, self.pending, self.overflows.set)

    def pending(self) -> int:
        return self.waiting


async def test_too_much_at_once_overflows_at_once() -> None:
    client = Client()
    client.waiting = 101
    client.limit.check()
    assert client.overflows.is_set()


async def test_too_much_for_too_long_overflows_and_what_was_taken_does_not() -> None:
    behind, quick = Client(), Client()
    for client in (behind, quick):
        client.waiting = 11
        client.limit.check()
        assert not client.overflows.is_set()
    quick.waiting = 10
    async with asyncio.timeout(10):
        await behind.overflows.wait()
    assert not quick.overflows.is_set()


async def test_one_that_is_stopped_checks_nothing_and_refers_to_nobody() -> None:
    client = Client()
    client.waiting = 1000
    client.limit.stop()
    client.limit.check()
    assert not client.overflows.is_set()
    limit, seen = client.limit, weakref.ref(client)
    gc.disable()
    try:
        del client
        assert seen() is None and limit.checks
    finally:
        gc.enable()
