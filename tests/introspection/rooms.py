"""Connections that can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, History, Presence, Socket
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from tests.support.rooms import OpenRoom


class Somebody(Presence):
    pass


class Room(Channel):
    presence = Somebody

    async def join(self, payload: Any) -> Any:
        await self.subscribe("room:further")  # subscribed, and not joined
        return "ok"


class Kept(OpenRoom):
    history = History(size=5, ttl=60, events={"new"})


class NamedSocket(Socket):
    channels = {"room:*": Room, "kept:*": Kept}

    def id(self) -> str | None:
        return self.params.get("name")


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    opened: list[Connected] = []

    async def open(name: str = "anybody", user: Any = None) -> Connected:
        opened.append(await connect(NamedSocket, {"name": name}, user=user))
        return opened[-1]

    yield open
    for connected in opened:
        await connected.close()


async def beaten() -> None:
    """The state knows what is so now."""
    await get_node().heartbeat.ready()
    await get_node().heartbeat.beat()
