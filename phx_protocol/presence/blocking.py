"""The methods of a Presence class for synchronous code: views, tasks, commands, the shell."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..node import blocking
from ..node.node import all_nodes
from ..socket.channel import Channel
from .presence import Presence
from .tracker import Trackers

Params = ParamSpec("Params")
Result = TypeVar("Result")


def _sync(
    method: Callable[Concatenate[Channel | str, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SyncPresence, Channel | str, Params], Result]:
    """Make the twin of a `method` of Presence: it calls that of the subclass, on the right loop."""
    name = method.__name__

    def call(
        self: SyncPresence,
        where: Channel | str,
        /,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Result:
        presence = self._presence
        loop = loop_of(presence, where)
        twin = f"{presence.__name__}.sync.{name}"
        advice = f"await {presence.__name__}.{name}(...)"
        run: Coroutine[Any, Any, Result]
        run = getattr(presence, name)(where, *args, **kwargs)
        return blocking.run(run, twin, advice, loop)

    function: Any = method
    functools.update_wrapper(call, function.__func__)
    call.__doc__ = f"``Presence.{name}`` for synchronous code."
    return call


class SyncPresence:
    """``RoomPresence.sync``: the methods of ``Presence`` for code that is not async.

    Each raises RuntimeError on a running event loop, and TimeoutError after ten seconds.
    """

    def __init__(self, presence: type[Presence]) -> None:
        self._presence = presence

    track = _sync(Presence.track)
    update = _sync(Presence.update)
    untrack = _sync(Presence.untrack)
    list = _sync(Presence.list)
    get = _sync(Presence.get)


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
