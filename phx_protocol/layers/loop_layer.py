"""LoopLayer: the channels and groups of one event loop, and its connections to the servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import RedisError

from ..logs.outage import Outage
from .connection import settle
from .direct import DirectChannel, Listener
from .inbox import Inbox, Message, Serializer, logger
from .shards import AnyShard, Hosts, Shards


class LoopLayer:
    """One event loop's part of a layer. Redis knows a group as a channel with the group's name in it."""

    def __init__(
        self,
        hosts: Hosts,
        prefix: str,
        serializer: Serializer,
        events: dict[str, str | None],
    ) -> None:
        self._hosts = hosts
        self._servers = Shards(hosts, self)
        self._loop = asyncio.get_running_loop()
        self._prefix = prefix
        self.serializer = serializer
        #: the types of the messages about the connection, for ordinary channels
        self._events = events
        self._channels: dict[bytes, Inbox | DirectChannel] = {}
        # group -> its channels in this loop -> the calls that still wait to add it; None if it is added
        self._groups: dict[bytes, dict[bytes, int | None]] = {}
        self._cut: set[AnyShard] = set()
        self._outage = Outage(
            logger,
            "the connection to Redis is lost, messages to this process are lost too",
            "the connection to Redis works again",
            _ignore,
            _ignore,
        )
        self._room: asyncio.Future[None] | None = None

    @property
    def is_used(self) -> bool:
        """True if there is a channel, or something is sent that nothing may overtake."""
        return bool(self._channels) or any(s.is_sending for s in self.shards)

    # --------------------------------------------------------------------- sending

    async def send(self, channel: str, message: Message) -> None:
        """Publish `message` to `channel`; return when Redis has it."""
        await self._publish(channel.encode(), self.serializer.serialize(message))

    async def group_send(self, group: str, message: Message) -> None:
        """Publish `message` to `group`; return when Redis has it."""
        name = self.name_of(group)
        await self._publish(name, self.serializer.serialize(message))

    async def _publish(self, name: bytes, data: bytes) -> None:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.shard_of(name).publish(name, data, settle(answer))
        found = await answer
        if isinstance(found, Exception):
            raise found

    async def room(self) -> None:
        """Wait until less is sent and not answered."""
        while any(shard.is_full for shard in self.shards):
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    def has_room(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    # -------------------------------------------------------------------- channels

    async def open(self, channel: str) -> Inbox | DirectChannel:
        """Return what takes the messages of `channel`; subscribe to it if it is new."""
        name = channel.encode()
        if name not in self._channels:
            self._channels[name] = Inbox(self.serializer, channel)
            try:
                self._subscribe(name)
                await self._subscribed(name)
            except BaseException:
                self._forget(channel)
                raise
        return self._channels[name]

    async def receive(self, channel: str) -> Message:
        """Wait for a message on `channel`. A channel that is not received any more ends."""
        inbox = await self.open(channel)
        if isinstance(inbox, DirectChannel):
            raise RuntimeError(f"the messages of {channel} go to a listener")
        try:
            return await inbox.get()
        except (asyncio.CancelledError, asyncio.TimeoutError, GeneratorExit):
            # A consumer cancels it when it ends; Channels has no other sign for that.
            self._forget(channel)
            raise

    def deliver_to(self, channel: str, listener: Listener) -> DirectChannel:
        """Pass messages on `channel` to `listener` as they arrive."""
        self._require(channel)
        direct = DirectChannel(self, channel, listener)
        self._channels[channel.encode()] = direct
        return direct

    def close_channel(self, channel: str) -> None:
        """End `channel`, also in its groups."""
        member = channel.encode()
        for name in [n for n, members in self._groups.items() if member in members]:
            self._leave(name, member)
        self._forget(channel)

    def _forget(self, channel: str) -> None:
        """End `channel`; it stays in its groups, until they are discarded."""
        name = channel.encode()
        if self._channels.pop(name, None) is not None:
            self._unsubscribe(name)

    # ---------------------------------------------------------------------- groups

    async def group_add(self, groups: Iterable[str], channel: str) -> None:
        """Add `channel` to `groups`; return when messages to all of them arrive."""
        self._require(channel)
        names, member = [self.name_of(group) for group in groups], channel.encode()
        for name in names:
            members = self._groups.setdefault(name, {})
            if (waiting := members.get(member, 0)) is not None:
                members[member] = waiting + 1
        try:
            for name in names:
                self._subscribe(name)
            for name in names:
                await self._subscribed(name)
        except BaseException:
            for name in names:
                self._not_added(name, member)
            raise
        for name in names:
            if member in self._groups.get(name, ()):
                self._groups[name][member] = None

    def _not_added(self, name: bytes, member: bytes) -> None:
        """End one call that was to add `member`, which may be in the group already, or added by another call."""
        if waiting := self._groups.get(name, {}).get(member):
            self._groups[name][member] = waiting - 1
            if waiting == 1:
                self._leave(name, member)

    def group_discard(self, group: str, channel: str) -> None:
        """Remove `channel` from `group`."""
        self._leave(self.name_of(group), channel.encode())

    def _leave(self, name: bytes, member: bytes) -> None:
        members = self._groups.get(name, {})
        members.pop(member, None)
        if not members and self._groups.pop(name, None) is not None:
            self._unsubscribe(name)

    def _require(self, channel: str) -> None:
        if channel.encode() not in self._channels:
            raise RuntimeError(
                "You can only call group_add() on channels that exist in-process.\n"
                "Consumers are encouraged to use the common pattern:\n"
                f"   self.channel_layer.group_add({channel!r}, self.channel_name)"
            )

    def name_of(self, group: str) -> bytes:
        """Return the channel of Redis for `group`."""
        return f"{self._prefix}__group__{group}".encode()

    @property
    def shards(self) -> list[AnyShard]:
        return self._servers.all

    def shard_of(self, name: bytes) -> AnyShard:
        """Return the server on which messages to `name` are published."""
        return self._servers.of(name)

    def servers_of(self, name: bytes) -> tuple[AnyShard, ...]:
        """Return the servers from which messages to `name` may come."""
        return self._servers.listening(name)

    def _subscribe(self, name: bytes) -> None:
        here = self.shard_of(name)
        here.subscribe(name)
        for shard in self._servers.listening(name):
            if shard is not here:
                shard.want(name)

    async def _subscribed(self, name: bytes) -> None:
        """Wait until messages to `name` arrive. Raises the error of the server on which they are published."""
        here = self.shard_of(name)
        for shard in self._servers.listening(name):
            # one of another list may be away: it is subscribed to when it is back
            if shard is not here and not shard.is_away():
                try:
                    await shard.subscribed(name)
                except (RedisError, OSError):
                    shard.is_away()
        await here.subscribed(name)

    def _unsubscribe(self, name: bytes) -> None:
        for shard in self._servers.listening(name):
            shard.unsubscribe(name)

    def is_spared(self, name: bytes) -> bool:
        """Return True if messages are lost, but not on a server for `name`."""
        return bool(self._cut) and self._cut.isdisjoint(self.servers_of(name))

    # -------------------------------------------------------- the owner of the shards

    def message(self, name: bytes, data: bytes, exclude: bytes | None) -> None:
        """Pass a message to the channels that it is for."""
        channel = self._channels.get(name)
        if channel is not None:
            return channel.put(data)
        # a listener may change the group
        for member in tuple(self._groups.get(name, ())):
            channel = self._channels.get(member)
            if channel is not None and member != exclude:
                channel.put(data)

    def disconnected(self, shard: AnyShard, error: Exception) -> None:
        is_first, self._cut = not self._cut, self._cut | {shard}
        if is_first:
            self._notify("on_disconnect", lambda to: to.disconnected(error), error)

    def reconnected(self, shard: AnyShard) -> None:
        self._cut.discard(shard)
        if not self._cut:
            self._notify("on_reconnect", lambda to: to.reconnected(), None)

    def _notify(
        self, event: str, tell: Callable[[Listener], None], error: Exception | None
    ) -> None:
        """Tell the listeners, or if there are none the log; send ordinary channels a message."""
        kind, listeners = self._events[event], 0
        for channel in tuple(self._channels.values()):
            if isinstance(channel, DirectChannel):
                listeners += 1
                try:
                    tell(channel.listener)
                except Exception:
                    logger.exception("the listener of %s failed", channel.name)
            elif kind is not None:
                channel.put(self.serializer.serialize({"type": kind}))
        if not listeners:
            self._outage.report(error)

    async def close(self) -> None:
        """Forget all channels and groups, and close the connections; others open when needed."""
        # first: what is asked from now on is for the next connections
        closing, self._servers = self.shards, Shards(self._hosts, self)
        self._channels.clear()
        self._groups.clear()
        self._cut.clear()
        self.has_room()
        await asyncio.gather(*(shard.close() for shard in closing))


def _ignore(*args: Any, **kwargs: Any) -> None: ...
