"""Which state a project has: the setting STATE, and what "auto" makes of the channel layer."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings

from ..conf import options
from ..exceptions import StateError
from .base import State
from .memory import MemoryState


def get_state() -> State:
    """A state for the running event loop: in memory the one of the process, else a connection.

    Raises StateError when Redis is asked for and there are no hosts to be had.
    """
    state = options().state
    if backend(state) == "memory":
        return _memory(state["LEASE"])
    return _redis(state)


def backend(state: dict[str, Any]) -> str:
    """What ``STATE["BACKEND"]`` comes to: "memory" or "redis"."""
    chosen: str = state["BACKEND"]
    if chosen != "auto":
        return chosen
    return "redis" if state["HOSTS"] or _is_of_channels_redis() else "memory"


def _is_of_channels_redis() -> bool:
    layer = get_channel_layer(options().channel_layer)
    return any(c.__module__.startswith("channels_redis.") for c in type(layer).__mro__)


@cache
def _memory(lease: float) -> MemoryState:
    return MemoryState(lease)


os.register_at_fork(after_in_child=_memory.cache_clear)


def _redis(state: dict[str, Any]) -> State:
    # only now: a project in memory has neither package
    from channels_redis.utils import create_pool, decode_hosts

    from .redis import RedisState

    hosts, prefix = state["HOSTS"], state["PREFIX"]
    if hosts is None and not _is_of_channels_redis():
        raise StateError('STATE is "redis" and has no HOSTS, nor has the channel layer')
    alias = options().channel_layer
    layer: dict[str, Any] = getattr(settings, "CHANNEL_LAYERS", {}).get(alias, {})
    config = layer.get("CONFIG", {})
    if prefix is None:
        prefix = f"{config.get('prefix', 'asgi')}:phx:"
    pool = create_pool(decode_hosts(config.get("hosts") if hosts is None else hosts)[0])
    for limit in ("socket_timeout", "socket_connect_timeout"):
        pool.connection_kwargs.setdefault(limit, state["TIMEOUT"])
    return RedisState(pool, prefix, state["LEASE"])
