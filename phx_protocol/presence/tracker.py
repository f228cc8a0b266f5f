"""Tracker: all presences of one Presence class in one process (event loop)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..exceptions import AlreadyTracked, NotTracked
from ..node.part import PARTS, Cast, Part
from ..state import Position, is_behind
from .entries import Diff, Entry, Roster
from .replica import Hint
from .topic import HINT, PresenceTopic

if TYPE_CHECKING:
    from ..node.node import Node
    from .presence import Presence

Meta = Mapping[str, Any]
Owner = Any  # the id of a channel's ChannelServer, or None for the process itself
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

    def topic(self, name: str) -> PresenceTopic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = PresenceTopic(self._node, self.presence, name)
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

    async def track(self, owner: Owner, topic: str, key: str, meta: Meta) -> str:
        owned = self._owned.get((owner, topic), {})
        if key in owned:
            raise AlreadyTracked(f"{key!r} is tracked on {topic!r} already")
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

    def end(self, owner: Owner, topic: str) -> None:
        """End all presences of the channel `owner` on `topic`: it has ended."""
        owned = self._owned.pop((owner, topic), {})
        if owned:
            self.topic(topic).change(Diff((), owned.values()))
            self._release()

    def _release(self) -> None:
        if not self._owned:
            self._node.let_go(self)

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

    def lose(self) -> None:
        for topic in self._topics.values():
            topic.lose()

    async def beat(self) -> None:
        """Write entries that the state lacks, and read changes that this process missed."""
        for name in [n for n, topic in self._topics.items() if topic.is_idle]:
            del self._topics[name]
        topics = list(self._topics.values())
        for topic in topics:
            await topic.mend()
        # topics with own entries too: reading their position keeps them from expiring
        kept = [t for t in topics if t.own or t.replica is not None]
        if not kept:
            return
        known = [t.replica.position if t.replica else None for t in kept]
        beat = self._node.heartbeat
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

    def count(self, topic: str) -> int:
        """Return how many keys are on `topic`, as far as this process knows without the state."""
        return sum(tracker.count(topic) for tracker in self._trackers.values())

    def _take(self, body: dict[str, Any]) -> None:
        presence_class = classes.get(body["name"])
        if presence_class is not None:
            self.of(presence_class).take(body)

    def unused(self, topic: str) -> None:
        for tracker in self._trackers.values():
            tracker.unused(topic)

    def lost(self) -> None:
        for tracker in self._trackers.values():
            tracker.lose()

    async def beat(self) -> None:
        for tracker in list(self._trackers.values()):
            await tracker.beat()


PARTS.append(Trackers)
