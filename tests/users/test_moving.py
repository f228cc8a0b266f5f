"""What is told of users while they move to another server of the state."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.test import override_settings

from phx_protocol.exceptions import StateError
from phx_protocol.state.occupancy import USER
from tests.node import test_placement
from tests.node.test_placement import Site, until
from tests.users.people import Connection
from tests.users.told import Told, told

__all__ = ["told"]

site = test_placement.site


async def test_who_had_left_before_the_change_is_told_after_it(
    site: Site, told: Told
) -> None:
    """Though the process that knew them has ended."""
    late = {**settings.PHX_PROTOCOL, "OFFLINE_AFTER": 3.0}
    with override_settings(PHX_PROTOCOL=late):
        one = await site.process(hosts=[0], next_hosts=[0, 1])
        ended = await site.process(hosts=[0], next_hosts=[0, 1])
        for n in range(8):
            Connection(ended, n)
        await until(lambda: len(told.said) == 8)
        told.said.clear()
        await site.end(ended)
        await site.process(hosts=[0, 1], previous_hosts=[0])
        await until(lambda: one.placement.rings.number)
        await asyncio.sleep(1)
        assert not told.said
        await told.until(*(("user_offline", str(n)) for n in range(8)))


async def test_who_is_here_is_not_told_to_have_left_while_the_new_server_is_away(
    site: Site, told: Told
) -> None:
    one = await site.process(hosts=[0], next_hosts=[1])
    connections = [Connection(one, n) for n in range(8)]
    await until(lambda: len(told.said) == 8)
    told.said.clear()
    occupancy = one.heartbeats[1].state.occupancy(USER)

    async def away(*args: Any) -> Any:
        raise StateError("away")

    occupancy.mark = away  # type: ignore[method-assign]
    busy = one.heartbeats[0].state.occupancy(USER)
    busy.claim = busy.sweep = away  # type: ignore[method-assign]
    two = await site.process(hosts=[1], previous_hosts=[0])
    await until(lambda: one.placement.rings.number)
    for _ in range(8):
        for node in (one, two):
            for heartbeat in node.heartbeats:
                await heartbeat.beat()
        await asyncio.sleep(0.2)
    assert not told.said
    del occupancy.mark  # type: ignore[attr-defined]
    for connection in connections:
        connection.close()
    await told.until(*(("user_offline", str(n)) for n in range(8)))
