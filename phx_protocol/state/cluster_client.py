"""ClusterClient: the connections of a state to a Redis Cluster, a Client for each primary that is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError

from ..layers.connection import is_moved
from ..layers.server import Place, Server
from ..layers.topology import Topology
from .client import ERRORS, Client, Word, is_away
from .scripts import Script

#: least and most seconds between two tries, while a slot is on its way to another primary
SOON, LATEST = 0.02, 0.2


class ClusterClient:
    """Has the methods of a Client. A call goes to the primary of the slot of its first key.

    If that primary says that it has not done the call, because the slot is at another one or on its way there,
    it is repeated, for the seconds of the server's patience.
    """

    def __init__(self, host: dict[str, Any], timeout: float | None = None) -> None:
        self._timeout = timeout
        self._topology = Topology(host, timeout)
        self._clients: dict[Place, Client] = {}
        self._is_stale = True  # the primaries may be others by now

    async def eval(self, script: Script, keys: list[str], args: list[Word]) -> Any:
        """Run `script`. Raises its error, or that of the connection."""
        return await self._on(keys[0], lambda client: client.eval(script, keys, args))

    async def call(self, *words: Word) -> Any:
        """Return the answer to a command with a key. Raises its error, or that of the connection."""
        return await self._on(str(words[1]), lambda client: client.call(*words))

    async def everywhere(self, *words: Word) -> list[Any]:
        """Return the answers of all primaries to a command."""
        await self._refresh()
        clients = [self._client_at(place) for place in self._topology.places]
        return await asyncio.gather(*(client.call(*words) for client in clients))

    async def _on(self, key: str, call: Callable[[Client], Awaitable[Any]]) -> Any:
        slot, loop = key_slot(key.encode()), asyncio.get_running_loop()
        until, pause = 0.0, 0.0
        while True:
            client = await self._client_of(slot)
            try:
                return await call(client)
            except ERRORS as error:
                until = until or loop.time() + client.patience
                if not _is_elsewhere(error):
                    self._is_stale = self._is_stale or is_away(error)
                    raise
                if loop.time() > until:
                    raise ConnectionError(f"its slot is nowhere: {error}") from error
                if is_moved(error):
                    self._topology.note(error)
                    self._is_stale = True
            await asyncio.sleep(pause)
            pause = min(max(SOON, 2 * pause), LATEST)

    async def _client_of(self, slot: int) -> Client:
        if self._is_stale:
            await self._refresh()
        place = self._topology.place_of(slot)
        if place is None:
            self._is_stale = True
            raise ConnectionError(f"no primary of the cluster has the slot {slot}")
        return self._client_at(place)

    async def _refresh(self) -> None:
        await self._topology.refresh()
        self._is_stale = False

    def _client_at(self, place: Place) -> Client:
        if place not in self._clients:
            server = Server(self._topology.host_of(place), self._timeout)
            self._clients[place] = Client(server)
        return self._clients[place]

    async def close(self) -> None:
        """Close all connections; calls that wait for them fail. A later call makes others."""
        for client in [*self._clients.values()]:
            await client.close()
        await self._topology.close()
        self._is_stale = True


def _is_elsewhere(error: Exception) -> bool:
    """Return True if the call was not done, and may be repeated: its slot has another primary, or will have."""
    codes = "MOVED ", "ASK ", "TRYAGAIN "
    return isinstance(error, ResponseError) and str(error).startswith(codes)
