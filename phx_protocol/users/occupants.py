"""Occupants: which users and topics this node has, written to the state every second."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..auth.users import key_of
from ..conf import options
from ..exceptions import StateError
from ..node.connections import OpenSocket
from ..node.part import PARTS, HasMoved, StatePart
from ..signals import topic_occupied, topic_vacated, user_offline, user_online
from ..state.occupancy import TOPIC, USER
from ..wire.topics import TopicPatterns
from .names import Names
from .teller import Teller

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat
    from ..node.node import Node


class Occupants(StatePart):
    """The users with connections to this node, and the topics that clients have joined here.

    Only those that the settings TRACK_USERS and TRACK_TOPICS name.
    """

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        super().__init__(node, heartbeat)
        chosen, registry = options(), node.pubsub.registry
        self._keys: dict[str, str] = {}  # a connection's key -> that of its user
        self._connections = Counter[str]()  # user -> connections
        self._patterns = TopicPatterns((topic, True) for topic in chosen.track_topics)
        self._users: Names | None = None
        self._topics: Names | None = None
        if chosen.track_users:
            teller = Teller(heartbeat, USER, user_online, user_offline)
            self._users = Names(heartbeat, teller, self._connections.__contains__)
        if chosen.track_topics:
            teller = Teller(heartbeat, TOPIC, topic_occupied, topic_vacated)
            self._topics = Names(
                heartbeat,
                teller,
                lambda topic: self.has(topic) and registry.count_joined(topic) > 0,
            )

    @property
    def _kinds(self) -> list[Names]:
        return [names for names in (self._users, self._topics) if names is not None]

    def opened(self, socket: OpenSocket) -> None:
        if self._users is not None and (key := key_of(socket)) is not None:
            if not self.has(key):
                return  # the part of its server does it
            self._keys[socket.key] = key
            self._connections[key] += 1
            self._users.changed(key)

    def closed(self, connection: str) -> None:
        if (
            self._users is not None
            and (key := self._keys.pop(connection, None)) is not None
        ):
            self._connections[key] -= 1
            if not self._connections[key]:
                del self._connections[key]
            self._users.changed(key)

    async def report(self, counts: Mapping[str, int]) -> None:
        if self._topics is not None:
            for topic in counts:
                if self._patterns.match(topic) is not None:
                    self._topics.changed(topic)
        for names in self._kinds:
            await names.write()
            names.teller.work()

    async def beat(self) -> None:
        for names in self._kinds:
            await names.sweep()

    def lost(self) -> None:
        for names in self._kinds:
            names.lost()

    def moved(self, has_moved: HasMoved) -> None:
        for connection in [c for c, key in self._keys.items() if has_moved(key)]:
            key = self._keys.pop(connection)
            self._connections.pop(key, None)
            other = self.node.part(Occupants, key)
            other._keys[connection] = key
            other._connections[key] += 1
        for kind in ("_users", "_topics"):
            names: Names | None = getattr(self, kind)
            if names is not None:
                names.move(
                    has_moved,
                    lambda name: getattr(self.node.part(Occupants, name), kind),
                )

    def stopped(self) -> None:
        for names in self._kinds:
            names.stopped()

    async def settled(self) -> None:
        with contextlib.suppress(StateError), self.heartbeat.state_call():
            for names in self._kinds:
                await names.write()
                await names.teller.give_back()
        # what is told is told at the same time: all have the same two seconds
        await asyncio.gather(*(names.teller.settled() for names in self._kinds))


PARTS.append(Occupants)
