"""RedisLayer: a channel layer over publish and subscribe of Redis.

::

    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "phx_protocol.layers.RedisLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:6379/0"]},
        }
    }

On the wire it is the same as ``channels_redis.pubsub.RedisPubSubChannelLayer``: names, servers and bytes
are equal, so processes with either layer work together while a site changes from one to the other.
"""

from __future__ import annotations

import asyncio
import types
import uuid
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any, TypeVar

from channels_redis.serializers import registry
from channels_redis.utils import decode_hosts

from ..concurrency import green
from ..concurrency.own_loop import own_loop
from .direct import DirectChannel, Listener
from .inbox import Message
from .loop_layer import LoopLayer
from .server import cluster_of, is_cluster
from .shards import Hosts

Result = TypeVar("Result")

#: options of the other layers of channels_redis, which mean nothing here
IGNORED = {"capacity", "channel_capacity", "expiry", "group_expiry"}


class RedisLayer:
    """A channel layer of Django Channels with the extensions "groups" and "flush".

    `hosts` are Redis servers (version 6 or newer) in the forms that channels_redis takes: URLs, pairs
    of host and port, or dicts with arguments of redis-py, sentinels included. Messages are spread
    over them by the names of channels and groups. ``redis+cluster://10.0.0.1:6379`` is a Redis Cluster
    (version 7 or newer), whose other nodes are found by itself. Messages are also taken from
    `next_hosts` and `previous_hosts`: two lists with which the servers can be changed while processes
    run, as Phoenix.PubSub has `pool_size` and `broadcast_pool_size`. `prefix` separates sites that share a server.
    `symmetric_encryption_keys` encrypt messages, and `serializer_format` ("msgpack" or "json") is the
    format of messages. A message of the type `on_disconnect` goes to each channel of a process when it
    loses a connection, one of the type `on_reconnect` when messages arrive again.

    Each event loop that has channels has one connection to each server. Code without channels
    (``async_to_sync`` in a view, a command, a task) sends over those of one loop of the process,
    which runs in a thread.
    """

    extensions = ["groups", "flush"]

    def __init__(
        self,
        hosts: list[Any] | None = None,
        prefix: str = "asgi",
        symmetric_encryption_keys: list[str | bytes] | None = None,
        serializer_format: str = "msgpack",
        on_disconnect: str | None = None,
        on_reconnect: str | None = None,
        next_hosts: list[Any] | None = None,
        previous_hosts: list[Any] | None = None,
        **ignored: Any,
    ) -> None:
        unknown = ignored.keys() - IGNORED
        if unknown:
            raise TypeError(f"RedisLayer has no option {', '.join(sorted(unknown))}")
        self.prefix = prefix
        others = [decode_hosts(some) for some in (next_hosts, previous_hosts) if some]
        self._hosts = Hosts(decode_hosts(hosts), others)
        for host in filter(is_cluster, chain(self._hosts.written, *others)):
            cluster_of(host)  # one that cannot be is an error at the start
        self._serializer = registry.get_serializer(
            serializer_format, symmetric_encryption_keys=symmetric_encryption_keys
        )
        self._events = {"on_disconnect": on_disconnect, "on_reconnect": on_reconnect}
        self._loops: dict[asyncio.AbstractEventLoop, LoopLayer] = {}
        # loop -> number of its messages that the loop in a thread is sending
        self._handed: dict[asyncio.AbstractEventLoop, int] = {}

    def serialize(self, message: Message) -> bytes:
        """Return `message` as bytes."""
        data: bytes = self._serializer.serialize(message)
        return data

    def deserialize(self, message: bytes) -> Message:
        """Return the message that `message` was made from."""
        value: Message = self._serializer.deserialize(message)
        return value

    # -------------------------------------------------------------------- channels

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new channel, whose messages arrive in this process."""
        channel = f"{self.prefix}{prefix}{uuid.uuid4().hex}"
        await self._here().open(channel)
        return channel

    async def send(self, channel: str, message: Message) -> None:
        """Send `message` to `channel`; return when Redis has it. Raises an error of redis-py if not."""
        await self._sent(lambda layer: layer.send(channel, message))

    async def receive(self, channel: str) -> Message:
        """Wait for a message on `channel`. If that is cancelled, the channel ends."""
        return await self._here().receive(channel)

    # ---------------------------------------------------------------------- groups

    async def group_add(self, group: str, channel: str) -> None:
        """Add `channel`, one of this process, to `group`; return when messages to the group arrive."""
        await self._here().group_add([group], channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove `channel` from `group`, if it is in it."""
        self._here().group_discard(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        """Send `message` to `group`; return when Redis has it. Raises an error of redis-py if not."""
        await self._sent(lambda layer: layer.group_send(group, message))

    async def flush(self) -> None:
        """Forget all channels and groups of this event loop, and close its connections."""
        layer = self._loops.get(asyncio.get_running_loop())
        if layer is not None:
            await layer.close()

    # -------------------------------------------------- for a listener, without tasks

    def deliver_to(self, channel: str, listener: Listener) -> DirectChannel:
        """Pass messages on `channel` to `listener` as they arrive; ``receive()`` cannot be called then.

        `channel` is one of ``new_channel()`` in this event loop. The listener also hears when a
        connection is lost, and when messages arrive again. What is returned sends without waiting.
        """
        return self._here().deliver_to(channel, listener)

    # ------------------------------------------------------------------ event loops

    def _here(self) -> LoopLayer:
        """Return the part of the running event loop."""
        loop = asyncio.get_running_loop()
        layer = self._loops.get(loop)
        if layer is None:
            layer = LoopLayer(self._hosts, self.prefix, self._serializer, self._events)
            self._loops[loop] = layer
            _at_close(loop, self._closing)
        return layer

    def _closing(self, loop: asyncio.AbstractEventLoop) -> None:
        layer = self._loops.pop(loop, None)
        if layer is not None:
            loop.run_until_complete(layer.close())

    async def _sent(
        self, send: Callable[[LoopLayer], Coroutine[Any, Any, None]]
    ) -> None:
        """Send by the connections of this loop; if it does not use them, by those of the own loop."""
        loop = asyncio.get_running_loop()
        layer = self._loops.get(loop)
        is_used = layer is not None and layer.is_used
        if (is_used and loop not in self._handed) or _must_send_here(loop):
            return await send(self._here())
        # until they have been sent, later messages must not overtake them
        self._handed[loop] = self._handed.get(loop, 0) + 1
        try:
            sent = asyncio.run_coroutine_threadsafe(self._on_own_loop(send), own_loop())
            await asyncio.wrap_future(sent)
        finally:
            self._handed[loop] -= 1
            if not self._handed[loop]:
                del self._handed[loop]

    async def _on_own_loop(
        self, send: Callable[[LoopLayer], Coroutine[Any, Any, None]]
    ) -> None:
        await send(self._here())


def _must_send_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return True on the loop in a thread; also with green threads, which cannot wait for a real one."""
    return green.real_start_new_thread() is not None or loop is own_loop()


def _at_close(
    loop: asyncio.AbstractEventLoop,
    closing: Callable[[asyncio.AbstractEventLoop], None],
) -> None:
    """Call `closing` before `loop` is closed: its connections need it to end in order."""
    close = loop.close

    def wrapper(self: asyncio.AbstractEventLoop) -> None:
        if not loop.is_closed():
            closing(loop)
        close()

    loop.close = types.MethodType(wrapper, loop)  # type: ignore[method-assign]
