"""Census: which connections a user or an address has, in all processes together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..concurrency.tasks import begin
from ..exceptions import StateError
from ..logs import get_logger
from ..state.base import Entries
from .part import HasMoved, StatePart

if TYPE_CHECKING:
    from .heartbeat import Heartbeat
    from .node import Node

logger = get_logger("phx_protocol.state")


class Member(NamedTuple):
    """A connection: the older one is the smaller one."""

    since: float
    id: str


_member = msgspec.json.Decoder(Member).decode


class Census(StatePart):
    """The connections that this node has counted, by the names for which they count.

    They lie in the state, in a group for each name. While it fails, only those of this node are known.
    """

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        super().__init__(node, heartbeat)
        self._members: dict[str, dict[str, Member]] = {}
        self._names: dict[str, list[str]] = {}  # id -> the names for which it counts
        # names of which the state may have other members of this node
        self._dirty: set[str] = set()
        # names that are on another server now: the state has members of this node here
        self._gone: set[str] = set()

    async def enter(self, name: str, id: str) -> list[Member]:
        """Count the connection `id` for `name`. Return all that count for it, the oldest first."""
        member = Member(time.time(), id)
        self._members.setdefault(name, {})[id] = member
        self._names.setdefault(id, []).append(name)
        group, packed = _group(name), {id: msgspec.json.encode(member)}

        async def ask(beat: Heartbeat) -> Entries:
            await beat.ready()
            with beat.state_call():
                await beat.state.change(group, beat.name, packed, ())
                return (await beat.state.entries(group))[1]

        try:
            found = await self.node.asked(name, ask)
        except StateError:
            part = self.node.part(Census, name)  # another one, if the name has moved
            part._dirty.add(name)
            return sorted(part._members.get(name, {id: member}).values())
        return sorted(map(_member, found.values()))

    def closed(self, connection: str) -> None:
        id = connection
        for name in self._names.pop(id, ()):
            members = self._members.get(name, {})
            if members.pop(id, None) is None:
                continue  # the name has moved
            if not members:
                self._members.pop(name, None)
            begin(self._drop(name, id))

    async def _drop(self, name: str, id: str) -> None:
        beat = self.heartbeat
        try:
            with beat.state_call():
                await beat.state.change(_group(name), beat.name, {}, [id])
        except StateError:
            self._dirty.add(name)

    def lost(self) -> None:
        self._dirty |= self._members.keys()

    def moved(self, has_moved: HasMoved) -> None:
        for name in [name for name in self._members if has_moved(name)]:
            self._gone.add(name)
            self.node.part(Census, name).take(name, self._members.pop(name))
        moved = set(filter(has_moved, self._dirty))
        self._dirty -= moved
        self._gone |= moved

    def take(self, name: str, members: dict[str, Member]) -> None:
        """Count for `name` what another part has counted."""
        self._members[name] = members
        for id in members:
            self._names.setdefault(id, []).append(name)
        self._dirty.add(name)

    async def beat(self) -> None:
        """Keep what is counted from expiring, and write again what the state may have lost."""
        # also of those that could not be dropped here any more
        gone = {name for name in self._gone | self._dirty if not self.has(name)}
        back = self._gone - gone
        if gone:
            await self.heartbeat.state.clear(self.heartbeat.name, [*map(_group, gone)])
        self._gone -= gone | back  # more may have moved meanwhile
        self._dirty |= back
        names = [name for name in self._members if self.has(name)]
        if names:
            beat, groups = self.heartbeat, [_group(name) for name in names]
            found = await beat.state.positions(groups, beat.name)
            self._dirty |= {
                n for n, position in zip(names, found) if not position.epoch
            }
        self._dirty = {name for name in self._dirty if self.has(name)}
        while self._dirty:
            await self._write(next(iter(self._dirty)))

    async def _write(self, name: str) -> None:
        beat, members = self.heartbeat, self._members.get(name, {})
        packed = {id: msgspec.json.encode(member) for id, member in members.items()}
        self._dirty.discard(name)
        try:
            await beat.state.replace(_group(name), beat.name, packed)
        except StateError:
            self._dirty.add(name)
            raise


def _group(name: str) -> str:
    return f"census\n{name}"
