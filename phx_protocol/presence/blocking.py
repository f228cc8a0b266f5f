"""The calls of a Presence class for synchronous code: views, tasks, commands, the shell."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..channel import Channel
from ..pubsub import blocking
from .entries import Presences

if TYPE_CHECKING:
    from .presence import Meta, Presence


class BlockingPresence:
    """``RoomPresence.sync``: as the calls of the same name, which tell what they do and raise.

    Raises RuntimeError on a running event loop, TimeoutError after ten seconds.
    """

    def __init__(self, presence: type[Presence]) -> None:
        self._presence = presence

    def track(
        self, where: Channel | str, key: Any, meta: Meta, *, topic: str | None = None
    ) -> str:
        call = self._presence.track(where, key, meta, topic=topic)
        return str(self._run(call, "track"))

    def update(
        self,
        where: Channel | str,
        key: Any,
        meta: Meta | Callable[[Any], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        call = self._presence.update(where, key, meta, topic=topic)
        return str(self._run(call, "update"))

    def untrack(
        self, where: Channel | str, key: Any = None, *, topic: str | None = None
    ) -> None:
        self._run(self._presence.untrack(where, key, topic=topic), "untrack")

    def list(self, where: Channel | str) -> Presences:
        found: Presences = self._run(self._presence.list(where), "list")
        return found

    def get(self, where: Channel | str, key: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._run(self._presence.get(where, key), "get")
        return found

    def _run(self, call: Coroutine[Any, Any, Any], name: str) -> Any:
        path = f"{self._presence.__name__}.{name}"
        whole = f"{self._presence.__name__}.sync.{name}"
        return blocking.run(call, whole, f"await {path}(...)")


class Blocking:
    """The attribute ``sync`` of a Presence class."""

    def __get__(self, instance: object, owner: type[Presence]) -> BlockingPresence:
        return BlockingPresence(owner)
