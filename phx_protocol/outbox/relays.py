"""Relays: the part of a node that sends the outboxes, and tells other nodes of new rows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import django.test.utils

from ..concurrency.tasks import begin
from ..conf import options
from ..node.connections import OpenSocket
from ..node.part import SERVING, Cast, Part
from ..pubsub.message import Internal
from .hints import Place, group_of
from .relay import Relay

if TYPE_CHECKING:
    from ..node.node import Node

#: the name of the cast that tells of new rows
CAST = "outbox"


class Relays(Part):
    """The relays of one node, one for each database that has an outbox."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._relays: dict[str, Relay] = {}
        self._groups: frozenset[Internal] = frozenset()
        self._untold: set[Place] = set()
        self._telling: asyncio.Task[None] | None = None
        self._is_drained = False

    def opened(self, socket: OpenSocket) -> None:
        if not self._relays:
            self.start_if_wanted()

    def start_if_wanted(self) -> None:
        """Start if processes that serve clients send the outboxes."""
        wanted = options().outbox["RELAY"]
        if wanted or (wanted is None and not _is_tested()):
            self.start()

    def start(self) -> None:
        """Send from now on."""
        if self._relays:
            return
        self._is_drained = False
        self.node.keep_alive(self)
        self.node.start()
        settings = options().outbox
        for database in settings["DATABASES"]:
            self._relays[database] = Relay(
                self.node,
                database,
                lease=settings["LEASE"],
                poll=settings["POLL"],
                changed=self._follow,
                gave=functools.partial(self.tell, [(database, None)]),
            )
        self._follow()

    def resumed(self) -> None:
        if self._is_drained:
            self.start()

    async def settled(self) -> None:
        """Finish what has begun, and let other processes go on."""
        self._is_drained = self._is_drained or bool(self._relays)
        relays, self._relays = [*self._relays.values()], {}
        await asyncio.gather(*(relay.end() for relay in relays))
        self._follow()
        if self._telling is not None:
            await asyncio.wait({self._telling})
        self.node.let_go(self)

    # ------------------------------------------------------------------- hints

    @property
    def casts(self) -> Mapping[str, Cast]:
        return {CAST: self._on_cast}

    def _on_cast(self, body: dict[str, Any]) -> None:
        self.wake([(body["database"], body["partition"])])

    def has(self, place: Place) -> bool:
        """Return whether a relay here has the partition; from any thread."""
        database, partition = place
        relay = self._relays.get(database)
        return relay is not None and partition in relay.held

    def wake(self, places: Iterable[Place]) -> None:
        """Tell the relays here that there are new rows, or free partitions."""
        for database, partition in places:
            if database in self._relays:
                self._relays[database].wake([partition])

    def tell(self, places: Iterable[Place]) -> None:
        """Tell the relays of other nodes."""
        self._untold.update(places)
        if self._untold and self._telling is None:
            self._telling = begin(self._tell())

    async def _tell(self) -> None:
        try:
            while self._untold:
                place = self._untold.pop()
                body = {"database": place[0], "partition": place[1]}
                await self.node.rpc.cast_topic(group_of(place), CAST, body)
        finally:
            self._telling = None

    def _follow(self) -> None:
        """Hear of new rows in the partitions that the relays have now, and of free ones."""
        wanted: set[Internal] = set()
        for database, relay in self._relays.items():
            wanted |= {group_of((database, partition)) for partition in relay.held}
            wanted.add(group_of((database, None)))
        for group in wanted - self._groups:
            self.node.link.used(group)
        for group in self._groups - wanted:
            self.node.link.unused(group)
        self._groups = frozenset(wanted)


def _is_tested() -> bool:
    """Return whether Django's test runner, or pytest-django, has prepared this process."""
    return hasattr(django.test.utils._TestState, "saved_data")


def _begin(node: Node) -> None:
    node.part(Relays).start_if_wanted()


SERVING.append(_begin)
