"""Tracker: all presences of one Presence class in one process (event loop)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..concurrency.tasks import begin
from ..exceptions import AlreadyTracked, NotTracked
from ..node.part import PARTS, Cast, HasMoved, Part, StatePart
from ..state import Position, is_behind
from ..state.base import named_in
from ..wire.reasons import Reason
from .entries import Diff, Entry, Roster
from .replica import Hint
from .topic import HINT, PresenceTopic

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat
    from ..node.node import Node
    from .presence import Presence

Meta = Mapping[str, Any]
Owner = Any  # the id of a channel's ChannelServer, or None for the process itself
#: the reasons with which a channel ends whose client may come back
COMES_BACK = frozenset({Reason.CLOSED, Reason.DRAINING})
#: every Presence class by its name
classes: dict[str, type[Presence]] = {}
_entries = msgspec.json.Decoder(list[Entry]).decode


class Tracker:
    """The presences of each owner: a channel, or the process, has one meta per topic and key."""

    def __init__(self, node: Node, presence: Presence) -> None:
        self.presence = presence
        self._node = node
        self._topics: dict[str, PresenceTopic] = {}
        self._owned: dict[tuple[Owner, str], dict[str, Entry]] = {}
        self._last = 0
        # what is being taken over, and the reason with which its channel has ended meanwhile
        self._taking: dict[tuple[Owner, str, str], Reason | None] = {}

    def topic(self, name: str) -> PresenceTopic:
        topic = self._topics.get(name)
        if topic is None:
            topic = PresenceTopic(self._node, self.presence, name)
            self._topics[name], topic.waiting.on_none = topic, self._release
        return topic

    async def roster(self, name: str) -> Roster:
        """Return the presences of a topic. A topic without clients here is not remembered."""
        if name in self._topics or name in self._node.pubsub.registry:
            return await self.topic(name).roster()
        return await PresenceTopic(self._node, self.presence, name).roster()

    def count(self, name: str) -> int:
        topic = self._topics.get(name)
        if topic is None:
            return 0
        return len(
            Roster(topic.own.values())
            if topic.replica is None
            else topic.replica.roster
        )

    async def take_over(self, owner: Owner, topic: str, key: str) -> str | None:
        """Give the channel `owner` the entry of a client that has come back.

        Return its ref; "" if the channel has ended meanwhile, None if no entry with that key waits.
        """
        self._require_free(owner, topic, key)
        self._taking[owner, topic, key] = None
        self._node.keep_alive(self)
        # in a task of its own: what the state has given away must be owned, also if the caller is
        # cancelled, as by another join of its client
        return await asyncio.shield(begin(self._take_over(owner, topic, key)))

    async def _take_over(self, owner: Owner, topic: str, key: str) -> str | None:
        taking = owner, topic, key
        try:
            entry = await self.topic(topic).take_over(key)
        finally:
            reason = self._taking.pop(taking)
            self._release()
        if entry is not None:
            self._owned.setdefault((owner, topic), {})[key] = entry
            self._node.keep_alive(self)
        if reason is not None:
            self.end(owner, topic, reason)
            return ""
        return None if entry is None else entry.ref

    def _require_free(self, owner: Owner, topic: str, key: str) -> None:
        owned = self._owned.get((owner, topic), {})
        if key in owned or (owner, topic, key) in self._taking:
            raise AlreadyTracked(f"{key!r} is tracked on {topic!r} already")

    async def track(self, owner: Owner, topic: str, key: str, meta: Meta) -> str:
        self._require_free(owner, topic, key)
        owned = self._owned.get((owner, topic), {})
        entry = Entry.make(key, self._now(), meta)
        self._owned.setdefault((owner, topic), owned)[key] = entry
        self._node.keep_alive(self)
        await self.topic(topic).change(Diff([entry]))
        return entry.ref

    async def update(
        self, owner: Owner, topic: str, key: str, meta: Meta | Callable[[Any], Meta]
    ) -> str:
        owned = self._owned.get((owner, topic), {})
        old = owned.get(key)
        if old is None:
            raise NotTracked(f"{key!r} is not tracked on {topic!r}")
        value = meta(old.decoded()) if callable(meta) else meta
        entry = owned[key] = Entry.make(key, old.since, value, old.ref)
        await self.topic(topic).change(Diff([entry], [old]))
        return entry.ref

    async def untrack(self, owner: Owner, topic: str, key: str | None) -> None:
        for taking in self._taking:
            if taking[:2] == (owner, topic) and key in (None, taking[2]):
                self._taking[taking] = Reason.LEFT
        owned = self._owned.get((owner, topic), {})
        keys = list(owned) if key is None else [key]
        left = [owned.pop(key) for key in keys if key in owned]
        if not owned:
            self._owned.pop((owner, topic), None)
        if left:
            done = self.topic(topic).change(Diff((), left))
            self._release()
            await done

    def owns(self, topic: str) -> bool:
        """Return True if the process itself tracks a presence on `topic`."""
        return (None, topic) in self._owned

    def end(self, owner: Owner, topic: str, reason: Reason) -> None:
        """End all presences of the channel `owner` on `topic`: it has ended with `reason`."""
        for taking in self._taking:
            if taking[:2] == (owner, topic):
                self._taking[taking] = reason
        owned = self._owned.pop((owner, topic), {})
        if owned:
            left, after = Diff((), owned.values()), self.presence.leave_after
            if after and reason in COMES_BACK:
                # whole seconds, so that many that are lost at once wait together
                self.topic(topic).wait(left, math.ceil(time.time() + after))
            else:
                self.topic(topic).change(left)
            self._release()

    def _release(self) -> None:
        waits = any(topic.waiting for topic in self._topics.values())
        if not (self._owned or self._taking or waits):
            self._node.let_go(self)

    async def settled(self) -> None:
        for topic in list(self._topics.values()):
            await topic.settled()

    def _now(self) -> int:
        # each time is unique, so that presences are in the order of the calls
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return self._last

    # -------------------------------------------------------- what the node calls

    def take(self, body: dict[str, Any]) -> None:
        """Apply a hint of another node."""
        name = body["topic"]
        if name in self._node.pubsub.registry:
            diff = Diff(_entries(body["joins"]), _entries(body["leaves"]))
            before, after = Position(*body["before"]), Position(*body["after"])
            self.topic(name).take(Hint(before, after, diff))

    def unused(self, name: str) -> None:
        if name in self._topics:
            self._topics[name].unused()

    def groups(self, has: Callable[[str], bool]) -> set[str]:
        """Return the groups of the topics for which `has` returns True."""
        return {topic.group for name, topic in self._topics.items() if has(name)}

    def lose(self, has: Callable[[str], bool]) -> None:
        """Note that the state has nothing of this process on the topics for which `has` returns True."""
        for name, topic in self._topics.items():
            if has(name):
                topic.lose()

    def doubt(self, groups: Collection[str]) -> None:
        """Note that the state may have other entries of this process in `groups` than it should."""
        for group in groups:
            if group.startswith(f"{self.presence.name}\n"):
                self.topic(named_in(group)).is_dirty = True

    async def beat(self, beat: Heartbeat) -> None:
        """Write entries that the state lacks, and read changes that this process missed.

        Only on the topics of one server.
        """
        for name in [n for n, topic in self._topics.items() if topic.is_idle]:
            del self._topics[name]
        topics = [topic for name, topic in self._topics.items() if beat.has(name)]
        for topic in topics:
            await topic.mend()
        # topics with own entries too: reading their position keeps them from expiring
        kept = [t for t in topics if t.own or t.waiting or t.replica is not None]
        if not kept:
            return
        known = [t.replica.position if t.replica else None for t in kept]
        groups = [topic.group for topic in kept]
        positions = await beat.state.positions(groups, beat.name)
        if any(map(is_behind, positions, known)):
            # forget all: the nodes that made the lost steps, and could repeat them, may be gone
            await beat.state.lost()
            return beat.beat_soon()
        for topic, position in zip(kept, positions):
            topic.compare(position)
            await topic.mend()


class Trackers(Part):
    """The trackers of one node, by the name of their Presence class."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._trackers: dict[str, Tracker] = {}

    @property
    def casts(self) -> Mapping[str, Cast]:
        return {HINT: self._take}

    def of(self, presence_class: type[Presence]) -> Tracker:
        name = presence_class.name
        tracker = self._trackers.get(name)
        if tracker is None:
            tracker = self._trackers[name] = Tracker(self.node, presence_class())
        return tracker

    @property
    def all(self) -> list[Tracker]:
        return list(self._trackers.values())

    def count(self, topic: str) -> int:
        """Return how many keys are on `topic`, as far as this process knows without the state."""
        return sum(tracker.count(topic) for tracker in self._trackers.values())

    def _take(self, body: dict[str, Any]) -> None:
        presence_class = classes.get(body["name"])
        if presence_class is not None:
            self.of(presence_class).take(body)

    async def settled(self) -> None:
        for tracker in self.all:
            await tracker.settled()

    def unused(self, topic: str) -> None:
        for tracker in self._trackers.values():
            tracker.unused(topic)


class Written(StatePart):
    """The presences of one node that are written to one server of the state."""

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        super().__init__(node, heartbeat)
        # groups of topics that have moved, and entries of this node that are still here
        self._gone: set[str] = set()

    @property
    def _trackers(self) -> list[Tracker]:
        return self.node.part(Trackers).all

    def lost(self) -> None:
        for tracker in self._trackers:
            tracker.lose(self.has)

    def moved(self, has_moved: HasMoved) -> None:
        for tracker in self._trackers:
            self._gone |= tracker.groups(has_moved)
            tracker.lose(has_moved)

    async def beat(self) -> None:
        gone = {group for group in self._gone if not self.has(named_in(group))}
        back = self._gone - gone
        if gone:
            await self.heartbeat.state.clear(self.heartbeat.name, [*gone])
        self._gone -= gone | back  # more may have moved meanwhile
        for tracker in self._trackers:
            tracker.doubt(back)
            await tracker.beat(self.heartbeat)


PARTS.append(Trackers)
PARTS.append(Written)
