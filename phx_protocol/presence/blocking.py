"""The methods of a Presence class for synchronous code: views, tasks, commands, the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..node import blocking
from ..node.node import all_nodes
from ..socket.channel import Channel
from .entries import Presences
from .tracker import Trackers

if TYPE_CHECKING:
    from .presence import Meta, Presence


class SyncPresence:
    """``RoomPresence.sync``: the methods of ``Presence`` for code that is not async.

    Each raises RuntimeError on a running event loop, and TimeoutError after ten seconds.
    """

    def __init__(self, presence: type[Presence]) -> None:
        self._presence = presence

    def track(
        self, where: Channel | str, key: Any, meta: Meta, *, topic: str | None = None
    ) -> str:
        """Do what ``Presence.track`` does."""
        call = self._presence.track(where, key, meta, topic=topic)
        return str(self._run(call, "track", where))

    def update(
        self,
        where: Channel | str,
        key: Any,
        meta: Meta | Callable[[Any], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        """Do what ``Presence.update`` does."""
        call = self._presence.update(where, key, meta, topic=topic)
        return str(self._run(call, "update", where))

    def untrack(
        self, where: Channel | str, key: Any = None, *, topic: str | None = None
    ) -> None:
        """Do what ``Presence.untrack`` does."""
        call = self._presence.untrack(where, key, topic=topic)
        self._run(call, "untrack", where)

    def list(self, where: Channel | str) -> Presences:
        """Return what ``Presence.list`` returns."""
        found: Presences = self._run(self._presence.list(where), "list", where)
        return found

    def get(self, where: Channel | str, key: Any) -> dict[str, Any] | None:
        """Return what ``Presence.get`` returns."""
        call = self._presence.get(where, key)
        found: dict[str, Any] | None = self._run(call, "get", where)
        return found

    def _run(
        self, call: Coroutine[Any, Any, Any], name: str, where: Channel | str
    ) -> Any:
        path = f"{self._presence.__name__}.{name}"
        whole = f"{self._presence.__name__}.sync.{name}"
        loop = loop_of(self._presence, where)
        return blocking.run(call, whole, f"await {path}(...)", loop)


def loop_of(
    presence: type[Presence], where: Channel | str
) -> asyncio.AbstractEventLoop | None:
    """Return the event loop that owns the presences of `where`.

    For a channel it is the loop of its connection; for a topic the loop of this process that tracks
    something on it, or None: then any loop will do.
    """
    if isinstance(where, Channel):
        return where.__phx__.server.connection.node.loop
    for node in all_nodes():
        if node.part(Trackers).of(presence).owns(where):
            return node.loop
    return None


class SyncAttribute:
    """The attribute ``sync`` of a Presence class."""

    def __get__(self, instance: object, owner: type[Presence]) -> SyncPresence:
        return SyncPresence(owner)
