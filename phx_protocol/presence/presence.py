"""Presence: the class that users subclass, and call from channels, views and workers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from ..concurrency.callbacks import AsyncCallable, as_method, settled
from ..concurrency.tasks import begin
from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import shown
from ..node.node import get_node
from ..socket.channel import Channel
from ..socket.socket import has_context
from ..wire import json
from .delivery import fetched, sendable
from .entries import Presences
from .tracker import Tracker, Trackers, classes

if TYPE_CHECKING:
    from .blocking import SyncPresence

logger = get_logger("phx_protocol.presence")

Meta = Mapping[str, Any]


class _Sync:
    """The attribute ``sync`` of a Presence class."""

    def __get__(self, instance: object, owner: type[Presence]) -> SyncPresence:
        from .blocking import SyncPresence  # which is made of Presence

        return SyncPresence(owner)


class Presence:
    """Tracks who is on a topic. Usually it is enough to subclass it and name it in ``Channel.presence``.

    ::

        class RoomPresence(Presence):
            async def fetch(self, topic, presences):  # optional
                ...

        class RoomChannel(Channel):
            presence = RoomPresence

    A presence is a key (for example a user) with one or more metas (its devices), each a mapping
    with its own ``phx_ref``. It belongs to the channel that tracked it and ends with that channel,
    however the channel ends. If a topic is passed instead of a channel, the presence belongs to the
    process. Mirrors ``Phoenix.Presence``.
    """

    #: seconds in which changes of a topic are merged into one diff, after a first change, which is
    #: sent at once; 0 for one diff per change, as Phoenix does
    diff_interval: ClassVar[float] = 0.01
    #: seconds for which the presence of a lost connection stays: of a client that reloads its page, changes
    #: its network, or is sent to another process by a deploy. Who is back in time, with the same key, has the
    #: presence that it had: nobody gets a diff. 0: it leaves at once, as in Phoenix
    leave_after: ClassVar[float] = 0
    #: the events that clients listen for (``opts.events`` of phoenix.js's Presence)
    state_event: ClassVar[str] = "presence_state"
    diff_event: ClassVar[str] = "presence_diff"
    #: classes with different names have separate presences; the default is the dotted path
    name: ClassVar[str] = "phx_protocol.Presence"
    #: the same methods for synchronous code: ``RoomPresence.sync.list("room:lobby")``
    sync: ClassVar[_Sync] = _Sync()

    # ------------------------------------------------------------- presences

    @classmethod
    async def track(
        cls, where: Channel | str, key: Any, meta: Meta, *, topic: str | None = None
    ) -> str:
        """Make `key` present with `meta`. Return its ``phx_ref``, or "" if the channel has ended.

        `where` is a channel: the presence belongs to it and is on its topic (or on `topic`). If one
        with this key waits for the return of its client (`leave_after`), the channel takes that over as
        it is, and `meta` plays no part. Or
        `where` is a topic: the presence belongs to this process. Raises AlreadyTracked if this
        owner already tracks the key on the topic, EncodeError for a meta that is not JSON. Mirrors
        ``c:track/3`` and ``c:track/4``.
        """
        owner, topic = cls._place(where, topic)
        tracker, name = cls._tracker(where, topic), _key(key)
        if isinstance(where, Channel):
            if not cls._ends_with(where, topic):
                return ""
            if cls.leave_after:
                ref = await tracker.take_over(owner, topic, name)
                if ref is not None:
                    return ref
        return await tracker.track(owner, topic, name, meta)

    @classmethod
    async def update(
        cls,
        where: Channel | str,
        key: Any,
        meta: Meta | Callable[[Any], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        """Replace the meta of a tracked presence by `meta`, or by the result of calling `meta` with it.

        Clients get one diff, in which the new meta has ``phx_ref_prev``. Return the new
        ``phx_ref``. Raises NotTracked. Mirrors ``c:update/3`` and ``c:update/4``.
        """
        owner, topic = cls._place(where, topic)
        return await cls._tracker(where, topic).update(owner, topic, _key(key), meta)

    @classmethod
    async def untrack(
        cls, where: Channel | str, key: Any = None, *, topic: str | None = None
    ) -> None:
        """End one presence, or all that `where` tracks on the topic. It is no error if there is none.

        Mirrors ``c:untrack/1``, ``c:untrack/2`` and ``c:untrack/3``.
        """
        owner, topic = cls._place(where, topic)
        await cls._tracker(where, topic).untrack(
            owner, topic, None if key is None else _key(key)
        )

    @classmethod
    async def list(cls, where: Channel | str) -> Presences:
        """Return ``{key: {"metas": [...]}}`` of a topic, enriched by ``fetch``. Mirrors ``c:list/1``."""
        topic = _topic(where)
        tracker = cls._tracker("", topic)
        roster = await tracker.roster(topic)
        return await fetched(tracker.presence, topic, roster)

    @classmethod
    async def get(cls, where: Channel | str, key: Any) -> dict[str, Any] | None:
        """Return the presence that ``list`` has for `key`, or None. Mirrors ``c:get_by_key/2``."""
        topic, key = _topic(where), _key(key)
        tracker = cls._tracker("", topic)
        roster = await tracker.roster(topic)
        return (await fetched(tracker.presence, topic, roster.of(key))).get(key)

    @classmethod
    async def push_state(cls, channel: Channel) -> None:
        """Push ``presence_state``, all presences of the channel's topic, to the client."""
        tracker = cls._tracker("", channel.topic)
        roster = await tracker.roster(channel.topic)
        if cls._fetches:
            presences = await sendable(tracker.presence, channel.topic, roster)
            await channel.push(cls.state_event, presences)
        else:
            await channel.push(cls.state_event, roster.encoded())

    @classmethod
    async def enter(cls, channel: Channel) -> None:
        """Push the state and track the client. Called after the join if ``Channel.presence`` is set.

        If ``presence_key`` returns no valid key, that is logged and the channel is tracked under the
        default key; in place of an invalid meta it is tracked with an empty one. A client that is
        back within `leave_after` seconds has the presence that it had: ``presence_meta`` is not asked.
        """
        await cls.push_state(channel)
        key = await settled(channel.presence_key())
        if not _is_text(key):
            _log_invalid(channel, "presence_key", "no key", key)
            key = channel.__phx__.id
        if cls.leave_after and cls._ends_with(channel, channel.topic):
            tracker = cls._tracker(channel, channel.topic)
            id = channel.__phx__.id
            if await tracker.take_over(id, channel.topic, str(key)) is not None:
                return
        meta = await settled(channel.presence_meta())
        if not isinstance(meta, Mapping) or not _is_json(meta):
            _log_invalid(channel, "presence_meta", "no mapping that is JSON", meta)
            meta = {}
        await cls.track(channel, key, meta)

    # ---------------------------------------------------------------- for users

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        """Enrich presences before clients get them, for example with names from the database.

        Called with all presences that joined in a diff, with all that left, and with the whole list
        for each client that joins and each call of ``list``. Return `presences` with more data in
        it; each presence must keep its ``metas``. Any other result is logged, and clients get the
        list without the extra data. A key is not always that of a user: an anonymous visitor has
        the key of its channel. Diffs keep their order while this runs. Mirrors ``c:fetch/2``.
        """
        return presences

    async def handle_metas(
        self, topic: str, joins: Presences, leaves: Presences, presences: Presences
    ) -> None:
        """Handle a diff. Called after every diff, in every process with subscribers of `topic`.

        `presences` are all presences after the diff. Mirrors ``c:handle_metas/4``. State can be kept
        on `self`: each process (event loop) has one instance.
        """

    def callback_context(self, topic: str) -> AbstractContextManager[Any]:
        """Return a context manager in which ``fetch`` and ``handle_metas`` run; the default has none.

        These serve many sockets: they begin with an empty context, not in that of a socket. For the
        rest see ``Socket.callback_context``.
        """
        return nullcontext()

    # ------------------------------------------------------- the implementation

    # True if the class overrides ``fetch`` or ``handle_metas``
    _fetches: ClassVar[bool] = False
    _handles: ClassVar[bool] = False
    _fetch: ClassVar[AsyncCallable] = fetch
    _handle_metas: ClassVar[AsyncCallable] = handle_metas

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        after = cls.leave_after
        is_number = isinstance(after, (int, float)) and not isinstance(after, bool)
        if not (is_number and 0 <= after < math.inf):
            raise TypeError(
                f"{cls.__qualname__}.leave_after is in seconds, not {after!r:.100}"
            )
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        cls._fetch = _hook(cls, "fetch", 2)
        cls._handle_metas = _hook(cls, "handle_metas", 4)
        cls._fetches = cls.fetch is not Presence.fetch
        cls._handles = cls.handle_metas is not Presence.handle_metas
        other = classes.get(cls.name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{other.__qualname__} has the name {cls.name!r} already")
        classes[cls.name] = cls

    @classmethod
    def _tracker(cls, where: Channel | str, topic: str) -> Tracker:
        # for a channel use the node of its socket, even if this runs on another loop
        if isinstance(where, Channel):
            node = where.__phx__.server.connection.node
        else:
            node = get_node()
        return node.part(Trackers).of(cls)

    @classmethod
    def _place(cls, where: Channel | str, topic: str | None) -> tuple[Any, str]:
        """Return the owner of a presence, and its topic."""
        if isinstance(where, Channel):
            where.__phx__.must_have_joined("a presence")
            # one that has ended owns nothing: its server may have another channel by now
            is_there = where.__phx__.is_current
            return where.__phx__.id if is_there else where, topic or where.topic
        return None, topic or _topic(where)

    @classmethod
    def _ends_with(cls, channel: Channel, topic: str) -> bool:
        """End presences on `topic` when `channel` ends. Return False if it has already ended."""
        membership, tracker = channel.__phx__, cls._tracker(channel, topic)
        end = functools.partial(tracker.end, membership.id, topic)
        return membership.on_end((cls, topic), end)


classes[Presence.name] = Presence


def _hook(cls: type[Presence], name: str, arguments: int) -> AsyncCallable:
    """Return the method `name` as an async function, in its ``callback_context`` if there is one."""
    if not has_context(cls, Presence):
        return as_method(cls, name, arguments)
    inside = as_method(cls, name, arguments, enter=_enter)

    async def run(*args: Any) -> Any:
        return await inside(*args)

    async def call(*args: Any) -> Any:
        return await begin(run(*args))

    return call


def _enter(presence: Presence, topic: str, *args: Any) -> AbstractContextManager[Any]:
    return presence.callback_context(topic)


def _topic(where: Channel | str) -> str:
    topic = where.topic if isinstance(where, Channel) else where
    if not isinstance(topic, str):
        raise TypeError(f"a channel or a topic is wanted, not {shown(where, 100)}")
    return topic


def _key(key: Any) -> str:
    if key is None:
        raise TypeError("a presence needs a key: the name of who is there")
    return str(key)


def _is_text(key: Any) -> bool:
    return key is not None and not inspect.isawaitable(key) and _is_json(str(key))


def _is_json(value: Any) -> bool:
    try:
        json.encode(value)
        return True
    except (EncodeError, TypeError, ValueError):
        return False


def _log_invalid(channel: Channel, name: str, what: str, value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()  # the method is an ``async def``, but it must be a plain ``def``
    logger.error(f"{type(channel).__name__}.{name} returns {what}: %.200r", value)
