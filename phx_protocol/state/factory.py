"""The choice of the state: the setting STATE, where "auto" depends on the channel layer."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from channels.layers import get_channel_layer
from django.conf import settings

from ..conf import options
from ..exceptions import StateError
from .base import State
from .memory import MemoryState

if TYPE_CHECKING:
    from .store import AnyClient


def get_states() -> list[State]:
    """Return a state for the running event loop: in memory that of the process, else one for each server.

    Raises StateError if STATE names Redis and no hosts are configured.
    """
    state = options().state
    if backend(state) == "memory":
        return [_memory(state["LEASE"])]
    return _redis(state)


def get_state() -> State:
    """Return the first of ``get_states()``."""
    return get_states()[0]


def server_of(name: str) -> str | None:
    """Return which server of the state has a topic, a user or an address; None if there is only one."""
    state = options().state
    servers = [] if backend(state) == "memory" else list(_hosts(state))
    if len(servers) < 2:
        return None
    return max(servers, key=lambda server: rank(server, name))


def rank(server: str, name: str) -> bytes:
    """Return the rank of a server for a topic or user: the highest has it (rendezvous hashing)."""
    return hashlib.blake2b(f"{server}\n{name}".encode(), digest_size=8).digest()


def backend(state: dict[str, Any]) -> str:
    """Return the backend that ``STATE["BACKEND"]`` selects: "memory" or "redis"."""
    chosen: str = state["BACKEND"]
    if chosen != "auto":
        return chosen
    return "redis" if state["HOSTS"] or _layer_is_in_redis() else "memory"


#: the packages whose channel layers are in Redis
IN_REDIS = ("phx_protocol.layers.", "channels_redis.")


def _layer_is_in_redis() -> bool:
    layer = get_channel_layer(options().channel_layer)
    return any(c.__module__.startswith(IN_REDIS) for c in type(layer).__mro__)


_memories: dict[float, MemoryState] = {}  # lease -> state
_lock = threading.Lock()


def _memory(lease: float) -> MemoryState:
    with _lock:
        if lease not in _memories:
            _memories[lease] = MemoryState(lease)
        return _memories[lease]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _memories.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _redis(state: dict[str, Any]) -> list[State]:
    # imported here: a project whose state is in memory needs neither package
    from .redis import RedisState

    prefix = state["PREFIX"]
    if prefix is None:
        prefix = f"{_layer().get('prefix', 'asgi')}:phx:"
    return [
        RedisState(make_client(host, state["TIMEOUT"]), prefix, state["LEASE"], name)
        for name, host in _hosts(state).items()
    ]


def _layer() -> dict[str, Any]:
    """Return the options of the channel layer."""
    alias = options().channel_layer
    layer: dict[str, Any] = getattr(settings, "CHANNEL_LAYERS", {}).get(alias, {})
    config: dict[str, Any] = layer.get("CONFIG", {})
    return config


def _hosts(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each server of the state once: name -> host. Raises StateError if there is none."""
    from channels_redis.utils import decode_hosts

    hosts = state["HOSTS"]
    if not hosts and not _layer_is_in_redis():
        raise StateError(
            'STATE is "redis", but neither it nor the channel layer has HOSTS'
        )
    return {_name_of(h): h for h in decode_hosts(hosts or _layer().get("hosts"))}


def make_client(host: dict[str, Any], timeout: float) -> AnyClient:
    """Return what calls `host`, one of the settings: a server, or a cluster."""
    from ..layers.server import Server, is_cluster
    from .client import Client

    if not is_cluster(host):
        return Client(Server(host, timeout))
    from .cluster_client import ClusterClient

    return ClusterClient(host, timeout)


def _name_of(host: dict[str, Any]) -> str:
    """Return what tells a host from others, without a password: ``"10.0.0.1:6379/0"``."""
    database = f"/{host.get('db') or 0}"
    if sentinels := host.get("sentinels"):
        places = ",".join(sorted(":".join(map(str, place)) for place in sentinels))
        return f"{host.get('master_name')} of {places}{database}"
    if address := host.get("address"):
        url = urlsplit(address)
        if url.scheme.endswith("+cluster"):
            nodes = url.netloc.rpartition("@")[2].split(",")
            return f"the cluster of {','.join(sorted(nodes))}"
        chosen = parse_qs(url.query).get("db", [""])[0]
        if url.scheme == "unix":
            return f"{url.path}/{chosen or 0}"
        chosen = chosen or url.path.strip("/") or database.strip("/")
        return f"{url.hostname}:{url.port or 6379}/{chosen}"
    if path := host.get("path"):
        return f"{path}{database}"
    return f"{host.get('host', 'localhost')}:{host.get('port', 6379)}{database}"
