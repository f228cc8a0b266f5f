"""The gauges: what there is now, whatever ended how."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from prometheus_client import REGISTRY

from phx_protocol import JoinDenied
from phx_protocol.contrib.prometheus import gauges
from phx_protocol.node.node import get_node
from phx_protocol.testing import connect
from tests.contrib.prometheus.counted import Values, counted, expected, values
from tests.contrib.rooms import Doors
from tests.support.ws_client import TIMEOUT

__all__ = ["counted"]


def levels() -> Values:
    names = tuple(f"phx_{n} " for n in ("sockets", "channels", "failing"))
    found = values(REGISTRY.collect())
    return Counter({k: v for k, v in found.items() if k.startswith(names) and v})


async def test_the_gauges_show_current_numbers_however_sockets_ended(
    counted: Any,
) -> None:
    clients = [await connect(Doors) for _ in range(4)]
    rooms = [await client.join(f"room:{n}") for n, client in enumerate(clients)]
    with pytest.raises(JoinDenied):
        await clients[0].join("room:crash")
    with pytest.raises(JoinDenied):
        await clients[0].join("room:forbidden")
    gauges.sample()
    sockets = {"Doors websocket": 4}
    assert levels() == expected(phx_sockets=sockets, phx_channels={"Room": 4})
    await rooms[0].push("crash")
    await rooms[0].assert_ended(crashed=True)
    await rooms[1].leave()
    await clients[2].close()
    bad = {"type": "websocket.receive", "text": "{"}
    await clients[3].communicator.asgi.send_input(bad)
    await clients[3].assert_closed(1011)
    await clients[3].close()
    gauges.sample()
    assert levels() == expected(phx_sockets={"Doors websocket": 2})
    for client in clients[:2]:
        await client.close()
    assert levels() == {}  # at once, when there is none left


async def test_the_gauges_are_sampled_while_there_are_sockets(
    counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "SECONDS", 0.01)

    async def until(wanted: Values) -> None:
        async with asyncio.timeout(TIMEOUT):
            while levels() != wanted:
                await asyncio.sleep(0.001)

    for _ in range(2):  # they begin again, too
        first, client = await connect(Doors), await connect(Doors)
        await until(expected(phx_sockets={"Doors websocket": 2}))
        await first.close()
        await until(expected(phx_sockets={"Doors websocket": 1}))
        get_node().link.outage.report(OSError("away"))
        sockets = {"Doors websocket": 1}
        await until(expected(phx_sockets=sockets, phx_failing={"layer": 1}))
        await client.join("room:1")
        get_node().link.outage.report(None)
        await until(expected(phx_sockets=sockets, phx_channels={"Room": 1}))
        await client.close()
