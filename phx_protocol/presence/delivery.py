"""DiffSender: sends diffs to the clients of this process, at most one per ``diff_interval``."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..concurrency.callbacks import look_for_stale_connections
from ..concurrency.tasks import CRASHES, begin, must_end
from ..logs import get_logger
from ..signals import presence_changed
from ..wire import json
from ..wire.messages import Broadcast
from .entries import Diff, Presences, Roster

if TYPE_CHECKING:
    from ..node.node import Node
    from .presence import Presence
    from .topic import PresenceTopic

logger = get_logger("phx_protocol.presence")


class DiffSender:
    """The diffs of one topic. The first is sent at once; those of an interval after it are merged."""

    def __init__(self, node: Node, presence: Presence, topic: PresenceTopic) -> None:
        self._node = node
        self._presence = presence
        self._topic = topic
        self._waiting = Diff()
        self._timer: asyncio.TimerHandle | None = None
        # diffs that wait for ``fetch`` to enrich their presences
        self._fetching: deque[Diff] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting and self._timer is None and self._task is None

    def put(self, diff: Diff) -> None:
        if not diff:
            return
        if self._timer is not None:
            self._waiting.add(diff)
            return
        self._deliver(diff)
        interval = self._presence.diff_interval
        if interval > 0:
            self._timer = self._node.loop.call_later(
                interval, self._interval_is_over, context=contextvars.Context()
            )

    def _interval_is_over(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, Diff()
        self.put(waiting)

    def _deliver(self, diff: Diff) -> None:
        if not (self._presence._fetches or self._presence._handles):
            joins, leaves = Roster(diff.joins.values()), Roster(diff.leaves.values())
            if presence_changed.receivers:
                self._broadcast(joins.presences(), leaves.presences())
            else:
                self._broadcast(joins.encoded(), leaves.encoded())
            return
        self._fetching.append(diff)
        if self._task is None:
            self._task = begin(self._fetch())

    async def _fetch(self) -> None:
        """Enrich and send one diff after the other, in order, each once for all clients."""
        try:
            while self._fetching:
                await self._enrich(self._fetching.popleft())
        finally:
            self._task = None

    async def _enrich(self, diff: Diff) -> None:
        presence, topic = self._presence, self._topic.name
        try:
            joins = await sendable(presence, topic, Roster(diff.joins.values()))
            leaves = await sendable(presence, topic, Roster(diff.leaves.values()))
            self._broadcast(joins, leaves)
            if presence._handles:
                now = (await self._topic.roster()).presences()
                await presence._handle_metas(topic, joins, leaves, now)
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception(
                "%s: a diff of %s was not handled", topic, type(presence).__name__
            )

    def _broadcast(self, joins: Any, leaves: Any) -> None:
        presence_changed.emit(
            type(self._presence), topic=self._topic.name, joins=joins, leaves=leaves
        )
        payload = json.encode_payload({"joins": joins, "leaves": leaves})
        event = self._presence.diff_event
        self._node.pubsub.deliver(
            Broadcast(self._topic.name, event, payload), strict=False
        )


async def fetched(presence: Presence, topic: str, roster: Roster) -> Presences:
    """Return the presences in `roster` as ``Presence.fetch`` enriches them.

    If ``fetch`` crashes, or returns something that is not presences, they are returned as they are.
    """
    presences = roster.presences()
    if not presences or not presence._fetches:
        return presences
    name = type(presence).__name__
    try:
        look_for_stale_connections()
        enriched: Presences = await presence._fetch(topic, presences)
        if wrong := _is_wrong_with(enriched):
            # clients do better with a list without extra data than with one that they cannot read
            logger.error(f"{name}.fetch returns {wrong}: %.200r", type(enriched))
            return roster.presences()
        return enriched
    except CRASHES as error:
        if must_end(error):
            raise
        logger.exception("%s.fetch crashed", name)
        return roster.presences()


async def sendable(presence: Presence, topic: str, roster: Roster) -> Presences:
    """Return what ``fetched`` returns, or the presences as they are if that is not JSON."""
    presences = await fetched(presence, topic, roster)
    try:
        json.encode_payload(presences)
        return presences
    except Exception as error:
        name = type(presence).__name__
        logger.error(f"{name}.fetch returns what is no JSON: %.200s", error)
        return roster.presences()


def _is_wrong_with(presences: Any) -> str | None:
    """Return why clients cannot read `presences`; None if they can."""
    if not isinstance(presences, Mapping):
        return "no mapping"
    for key, presence in presences.items():
        if not isinstance(key, str):
            return "a key that is no string"
        metas = presence.get("metas") if isinstance(presence, Mapping) else None
        if not isinstance(metas, (list, tuple)):
            return "a presence without a list of metas"
        if not all(isinstance(meta, Mapping) and "phx_ref" in meta for meta in metas):
            return "a meta without its phx_ref"
    return None
