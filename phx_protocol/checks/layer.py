"""The checks of the channel layer and the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning

from ..conf import STATE, options
from ..exceptions import StateError
from ..pubsub.link import is_in_memory
from ..state.factory import LISTS, backend, get_state
from .values import is_like


def check_layer() -> Iterator[CheckMessage]:
    alias = options().channel_layer
    configured = getattr(settings, "CHANNEL_LAYERS", {})
    # who has chosen the local bus knows what a layer in memory does
    is_alone = not settings.DEBUG and not options().local_bus
    if alias not in configured:
        if alias != "default":
            hint = f"CHANNEL_LAYERS has {', '.join(configured) or 'nothing'}."
            yield Error(
                f"CHANNEL_LAYERS has no {alias!r}.", hint=hint, id="phx_protocol.E010"
            )
        elif is_alone:
            yield Warning(
                "There is no channel layer: broadcasts stay in the process that makes them.",
                hint="Configure phx_protocol.layers.RedisLayer as CHANNEL_LAYERS['default'].",
                id="phx_protocol.W001",
            )
        return
    try:
        layer = channel_layers[alias]
    except Exception as error:
        yield Error(f"CHANNEL_LAYERS[{alias!r}]: {error!r}", id="phx_protocol.E011")
        return
    named = configured[alias]["BACKEND"]
    config = configured[alias].get("CONFIG", {})
    hosts = [host for name in LISTS for host in config.get(name) or ()]
    is_ours = type(layer).__module__.startswith("phx_protocol.")
    if not is_ours and any(map(_is_cluster, hosts)):
        yield Error(
            f"CHANNEL_LAYERS[{alias!r}] names a Redis Cluster, which {named} cannot use.",
            hint="phx_protocol.layers.RedisLayer can.",
            id="phx_protocol.E020",
        )
    if isinstance(layer, InMemoryChannelLayer) and is_alone:
        yield Warning(
            "The channel layer is in-memory: broadcasts stay in the process that makes them.",
            hint="Use phx_protocol.layers.RedisLayer when there is more than one process.",
            id="phx_protocol.W002",
        )
    if type(layer).__name__ == "RedisChannelLayer" and layer.capacity < 1000:
        yield Warning(
            f"RedisChannelLayer drops messages in silence beyond its capacity of {layer.capacity}.",
            hint="Set CONFIG['capacity'] to 1000 or more, or use phx_protocol.layers.RedisLayer.",
            id="phx_protocol.W003",
        )
    if any(c.__module__.startswith("channels_redis.") for c in type(layer).__mro__):
        yield Info(
            "The layers of channels_redis wait for each round trip to Redis, and the one over "
            "pub/sub answers a join before messages of other processes arrive.",
            hint="phx_protocol.layers.RedisLayer does neither. With the pub/sub layer of "
            "channels_redis you can change one process after the other.",
            id="phx_protocol.I001",
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, type(None)))


def _is_cluster(host: Any) -> bool:
    address = host.get("address") if isinstance(host, dict) else host
    return str(address).startswith(("redis+cluster://", "rediss+cluster://"))


def check_state() -> Iterator[CheckMessage]:
    state = options().state
    known = {
        "BACKEND": state["BACKEND"] in ("auto", "memory", "redis"),
        **{name: _is_list(state[name]) for name in map(str.upper, LISTS)},
        "PREFIX": isinstance(state["PREFIX"], (str, type(None))),
        "LEASE": is_like(state["LEASE"], STATE["LEASE"]),
        "TIMEOUT": is_like(state["TIMEOUT"], STATE["TIMEOUT"]),
    }
    wrong = {key: value for key, value in state.items() if not known.get(key)}
    if wrong:
        yield Error(
            f"STATE cannot have {wrong!r}.",
            hint=f'Write "auto", "memory", "redis", or change some of {STATE}.',
            id="phx_protocol.E015",
        )
        return
    try:
        get_state()
    except (StateError, ImportError, ValueError) as error:
        hint = 'Name the servers, as for the channel layer: {"HOSTS": ["redis://..."]}.'
        yield Error(f"STATE: {error}", hint=hint, id="phx_protocol.E015")
        return
    layer = get_channel_layer(options().channel_layer)
    is_shared = not is_in_memory(layer)
    if is_shared and backend(state) == "memory":
        yield Warning(
            "STATE is in memory: presences and histories end at the process, broadcasts do not.",
            hint='With several processes use {"HOSTS": ["redis://..."]}.',
            id="phx_protocol.W006",
        )
