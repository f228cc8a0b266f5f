"""Presence: what users subclass, and call from channels, views and workers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..concurrency.callbacks import AsyncCallable, as_method, settled
from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import shown
from ..node.node import get_node
from ..socket.channel import Channel
from ..wire import json
from .blocking import Blocking
from .delivery import fetched, sendable
from .entries import Presences
from .tracker import Tracker, Trackers, classes

logger = get_logger("phx_protocol.presence")

Meta = Mapping[str, Any]


class Presence:
    """Who is on a topic. Subclass it, name it in ``Channel.presence``, and that is mostly all.

    ::

        class RoomPresence(Presence):
            async def fetch(self, topic, presences):  # may be left out
                ...

        class RoomChannel(Channel):
            presence = RoomPresence

    A presence is a key (a user, say) with one or more metas (its devices), each a mapping with
    a ``phx_ref`` of its own. It belongs to the channel that tracked it and ends with it,
    whatever ends it; a topic in place of a channel makes it one of the process. Mirrors
    ``Phoenix.Presence``.
    """

    #: seconds in which changes of a topic are merged into one diff, after a first one that goes
    #: out at once; 0 for one diff a change, as Phoenix does
    diff_interval: ClassVar[float] = 0.01
    #: what clients listen for (``opts.events`` of phoenix.js's Presence)
    state_event: ClassVar[str] = "presence_state"
    diff_event: ClassVar[str] = "presence_diff"
    #: presences of classes with different names never meet; the default is the dotted path
    name: ClassVar[str] = "phx_protocol.Presence"
    #: the same calls for synchronous code: ``RoomPresence.sync.list("room:lobby")``
    sync: ClassVar[Blocking] = Blocking()

    # ------------------------------------------------------------- who is there

    @classmethod
    async def track(
        cls, where: Channel | str, key: Any, meta: Meta, *, topic: str | None = None
    ) -> str:
        """Have `key` be present with `meta`; returns its ``phx_ref``, or "" for a channel that
        has ended.

        `where` is the channel it belongs to, on whose topic it is (or on `topic`), or a topic:
        then it belongs to this process. Raises AlreadyTracked for the same owner, topic and
        key, EncodeError for a meta that is not JSON. Mirrors ``c:track/3`` and ``c:track/4``.
        """
        owner, topic = cls._place(where, topic)
        if isinstance(where, Channel) and not cls._ends_with(where, topic):
            return ""
        return await cls._tracker(where).track(owner, topic, _key(key), meta)

    @classmethod
    async def update(
        cls,
        where: Channel | str,
        key: Any,
        meta: Meta | Callable[[Any], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        """Give a tracked presence another meta, or what `meta` makes of the old one.

        Clients see one diff, in which the new meta has ``phx_ref_prev``. Returns the new
        ``phx_ref``; raises NotTracked. Mirrors ``c:update/3`` and ``c:update/4``.
        """
        owner, topic = cls._place(where, topic)
        return await cls._tracker(where).update(owner, topic, _key(key), meta)

    @classmethod
    async def untrack(
        cls, where: Channel | str, key: Any = None, *, topic: str | None = None
    ) -> None:
        """End a presence, or all that `where` tracks on the topic. Nothing to end is no error.

        Mirrors ``c:untrack/1``, ``c:untrack/2`` and ``c:untrack/3``.
        """
        owner, topic = cls._place(where, topic)
        await cls._tracker(where).untrack(
            owner, topic, None if key is None else _key(key)
        )

    @classmethod
    async def list(cls, where: Channel | str) -> Presences:
        """``{key: {"metas": [...]}}`` of a topic, as ``fetch`` enriches it. Mirrors ``c:list/1``."""
        topic, tracker = _topic(where), cls._tracker()
        roster = await tracker.roster(topic)
        return await fetched(tracker.presence, topic, roster)

    @classmethod
    async def get(cls, where: Channel | str, key: Any) -> dict[str, Any] | None:
        """What ``list`` has for `key`, or None. Mirrors ``c:get_by_key/2``."""
        topic, tracker, key = _topic(where), cls._tracker(), _key(key)
        roster = await tracker.roster(topic)
        return (await fetched(tracker.presence, topic, roster.of(key))).get(key)

    @classmethod
    async def push_state(cls, channel: Channel) -> None:
        """Push ``presence_state`` to the client: who is on the channel's topic."""
        tracker = cls._tracker()
        roster = await tracker.roster(channel.topic)
        if cls._fetches:
            presences = await sendable(tracker.presence, channel.topic, roster)
            await channel.push(cls.state_event, presences)
        else:
            await channel.push(cls.state_event, roster.encoded())

    @classmethod
    async def enter(cls, channel: Channel) -> None:
        """Push the state and track the client: called after the join for ``Channel.presence``.

        A key that is none is logged, and the channel is tracked under its own; a meta that is none
        is empty.
        """
        await cls.push_state(channel)
        key, meta = channel.presence_key(), channel.presence_meta()
        key, meta = await settled(key), await settled(meta)
        if not _is_text(key):
            _say_wrong(channel, "presence_key", "no key", key)
            key = channel.__phx__.server.id
        if not isinstance(meta, Mapping) or not _is_json(meta):
            _say_wrong(channel, "presence_meta", "no mapping that is JSON", meta)
            meta = {}
        await cls.track(channel, key, meta)

    # ---------------------------------------------------------------- for users

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        """Enrich presences before clients see them: names from the database, say.

        Called with all that joined in a diff, with all that left, and with the whole list for
        whoever asks for it: each client that joins, and each ``list``. Return `presences` with more
        in it, each with its ``metas``; what is something else is logged, and clients get the list
        as it was. Keys need not be those of users: a visitor without one has its channel's. Diffs
        keep their order while it runs. Mirrors ``c:fetch/2``.
        """
        return presences

    async def handle_metas(
        self, topic: str, joins: Presences, leaves: Presences, presences: Presences
    ) -> None:
        """Called after every diff, in every process with subscribers of `topic`.

        `presences` is who is there then. Mirrors ``c:handle_metas/4``; what it would keep as
        its state can be kept on `self`, of which a process (event loop) has one.
        """

    # ------------------------------------------------------- the implementation

    # whether ``fetch`` and ``handle_metas`` do anything
    _fetches: ClassVar[bool] = False
    _handles: ClassVar[bool] = False
    _fetch: ClassVar[AsyncCallable] = fetch
    _handle_metas: ClassVar[AsyncCallable] = handle_metas

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        cls._fetch = as_method(cls, "fetch", 2)
        cls._handle_metas = as_method(cls, "handle_metas", 4)
        cls._fetches = cls.fetch is not Presence.fetch
        cls._handles = cls.handle_metas is not Presence.handle_metas
        other = classes.get(cls.name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{other.__qualname__} has the name {cls.name!r} already")
        classes[cls.name] = cls

    @classmethod
    def _tracker(cls, where: Channel | str = "") -> Tracker:
        # the node of a channel is that of its socket, whatever loop this runs on
        if isinstance(where, Channel):
            node = where.__phx__.server.connection.node
        else:
            node = get_node()
        trackers = node.part(Trackers)
        return trackers.of(cls)

    @classmethod
    def _place(cls, where: Channel | str, topic: str | None) -> tuple[Any, str]:
        """The owner of a presence, and its topic."""
        if isinstance(where, Channel):
            where.__phx__.server.must_have_joined(where, "a presence")
            # one that has ended owns nothing: its server may have another channel by now
            is_there = where.__phx__.server.channel is where
            return where.__phx__.server.id if is_there else where, topic or where.topic
        return None, topic or _topic(where)

    @classmethod
    def _ends_with(cls, channel: Channel, topic: str) -> bool:
        """Have presences on `topic` end with `channel`; False when it has ended already."""
        server, tracker = channel.__phx__.server, cls._tracker(channel)
        end = functools.partial(tracker.end, server.id, topic)
        return server.at_end(channel, (cls, topic), end)


classes[Presence.name] = Presence


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


def _say_wrong(channel: Channel, name: str, what: str, value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()  # of an ``async def``: it is called on the event loop, and must be plain
    logger.error(f"{type(channel).__name__}.{name} returns {what}: %.200r", value)
