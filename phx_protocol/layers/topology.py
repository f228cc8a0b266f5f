"""Topology: which primary of a Redis Cluster has which slot, as redis-py finds out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError, MovedError

from ..concurrency.tasks import begin, end
from .server import Place, cluster_of

#: seconds for which what MOVED says is newer than what another node says: it may not have heard of it
FRESH = 2.0
#: seconds between two questions, which may come with each error of a call
PAUSE = 0.1
#: seconds for which a node is waited for, unless the settings say otherwise
TIMEOUT = 5.0


class Topology:
    """The primaries of the cluster `host`.

    `host` is one of the settings, see ``cluster_of``. Raises ValueError as that does.
    """

    def __init__(self, host: dict[str, Any], timeout: float | None = None) -> None:
        self._places, self._options = cluster_of(host)
        self._timeout = TIMEOUT if timeout is None else timeout
        self._remap = self._options.pop("address_remap", None)
        self._cluster = self._make()
        self._asking: asyncio.Task[None] | None = None
        self._next = 0.0  # when it may ask again
        # slot -> what MOVED said of it, and until when that is newer than the rest
        self._moved: dict[int, tuple[Place, float]] = {}

    def _make(self) -> RedisCluster:
        options = {**self._options, "protocol": 2}
        options.setdefault("socket_timeout", self._timeout)
        options.setdefault("socket_connect_timeout", self._timeout)
        return RedisCluster(
            startup_nodes=[ClusterNode(*place) for place in self._places],
            require_full_coverage=False,
            address_remap=self._remap,
            **options,
        )

    async def refresh(self) -> None:
        """Ask the nodes which slots they have; who asks meanwhile waits for the same answer.

        Raises ConnectionError.
        """
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = begin(self._ask())
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            if not asking.cancelled():
                raise
            raise ConnectionError("the connection was closed") from None

    async def _ask(self) -> None:
        await asyncio.sleep(self._next - time.monotonic())
        try:
            await self._cluster.nodes_manager.initialize()
        except Exception as error:  # redis-py has an IndexError for nodes without slots
            # perhaps all that it has found are gone: it begins with those of the settings again
            await self._close_nodes()
            self._cluster = self._make()
            raise ConnectionError(f"{error}") from error
        finally:
            self._next = time.monotonic() + PAUSE
        # the next question may come in days
        await self._close_nodes()

    async def _close_nodes(self) -> None:
        nodes = self._cluster.nodes_manager
        # they may have the same names
        known = [*nodes.startup_nodes.values(), *nodes.nodes_cache.values()]
        closing = (node.disconnect() for node in known)
        await asyncio.gather(*closing, return_exceptions=True)

    def place_of(self, slot: int) -> Place | None:
        """Return the primary of `slot`; None if none is known."""
        if slot in self._moved:
            place, until = self._moved[slot]
            if time.monotonic() < until:
                return place
            del self._moved[slot]
        found = self._cluster.nodes_manager.slots_cache.get(slot)
        return Place(str(found[0].host), int(found[0].port)) if found else None

    @property
    def places(self) -> set[Place]:
        """The primaries that have slots."""
        owners = map(self.place_of, self._cluster.nodes_manager.slots_cache)
        return {place for place in owners if place is not None}

    def note(self, error: Exception) -> None:
        """Note the error MOVED: it says who has a slot."""
        moved = MovedError(str(error).partition(" ")[2])
        if moved.host:  # else it is for the host that was asked
            remap = self._cluster.nodes_manager.remap_host_port
            place = Place(*remap(moved.host, moved.port))
            self._moved[moved.slot_id] = place, time.monotonic() + FRESH

    def host_of(self, place: Place) -> dict[str, Any]:
        """Return `place` as a host of the settings."""
        options = {**self._options}
        scheme = "rediss" if options.pop("ssl", False) else "redis"
        name = f"[{place.host}]" if ":" in place.host else place.host
        return {**options, "address": f"{scheme}://{name}:{place.port}"}

    async def close(self) -> None:
        await end(self._asking)
        await self._close_nodes()
