"""The choice of the state: the setting STATE, where "auto" depends on the channel layer."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from channels.layers import get_channel_layer
from django.conf import settings

from ..conf import options
from ..exceptions import StateError
from .base import State
from .memory import MemoryState
from .rings import id_of

if TYPE_CHECKING:
    from .store import AnyClient

#: name -> server, as it is in the settings
Hosts: TypeAlias = dict[str, dict[str, Any]]


class Servers(NamedTuple):
    """The servers of the state in the settings.

    `states` has a state for each server of any list. `used` are the ids of the servers in HOSTS, and
    `previous` are those of PREVIOUS_HOSTS, None without that list. `has_next` is True with NEXT_HOSTS: this
    process then knows the next servers, and asks for no change.
    """

    states: list[State]
    used: list[str]
    previous: list[str] | None = None
    has_next: bool = False


def get_servers() -> Servers:
    """Return the states for the running event loop: in memory that of the process, else one for each server.

    Raises StateError if STATE names Redis and no hosts are configured.
    """
    state = options().state
    if backend(state) == "memory":
        memory = _memory(state["LEASE"])
        return Servers([memory], [id_of(memory.server)])
    lists = _lists(state)
    used, upcoming, previous = (_ids(lists[name]) for name in LISTS)
    return Servers(_redis(state, lists), used, previous or None, bool(upcoming))


def get_states() -> list[State]:
    """Return a state for each server that the settings name. Raises StateError, as ``get_servers``."""
    return get_servers().states


def get_state() -> State:
    """Return the first of ``get_states()``."""
    return get_states()[0]


def backend(state: dict[str, Any]) -> str:
    """Return the backend that ``STATE["BACKEND"]`` selects: "memory" or "redis"."""
    chosen: str = state["BACKEND"]
    if chosen != "auto":
        return chosen
    return "redis" if state["HOSTS"] or _layer_is_in_redis() else "memory"


#: the lists of servers, as options of the layer; in STATE they are written in capital letters
LISTS = ("hosts", "next_hosts", "previous_hosts")
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


def _redis(state: dict[str, Any], lists: dict[str, Hosts]) -> list[State]:
    # imported here: a project whose state is in memory needs neither package
    from .redis import RedisState

    prefix = state["PREFIX"]
    if prefix is None:
        prefix = f"{_layer().get('prefix', 'asgi')}:phx:"
    # first those in HOSTS: with the first one a node beats for all that is on no server
    hosts: Hosts = {}
    for named in lists.values():
        hosts = {**hosts, **named, **hosts}
    return [
        RedisState(make_client(host, state["TIMEOUT"]), prefix, state["LEASE"], name)
        for name, host in hosts.items()
    ]


def _layer() -> dict[str, Any]:
    """Return the options of the channel layer."""
    alias = options().channel_layer
    layer: dict[str, Any] = getattr(settings, "CHANNEL_LAYERS", {}).get(alias, {})
    config: dict[str, Any] = layer.get("CONFIG", {})
    return config


def _lists(state: dict[str, Any]) -> dict[str, Hosts]:
    """Return the lists of servers, the one in use first. Raises StateError if there is none."""
    from channels_redis.utils import decode_hosts

    from ..layers.server import name_of

    named = {name: state[name.upper()] for name in LISTS}
    if not named["hosts"]:
        if not _layer_is_in_redis():
            raise StateError(
                'STATE is "redis", but neither it nor the channel layer has HOSTS'
            )
        named = {name: _layer().get(name) for name in LISTS}
        named["hosts"] = decode_hosts(named["hosts"])
    return {
        name: {name_of(host): host for host in decode_hosts(some)} if some else {}
        for name, some in named.items()
    }


def _ids(hosts: Hosts) -> list[str]:
    return sorted(map(id_of, hosts))


def make_client(host: dict[str, Any], timeout: float) -> AnyClient:
    """Return what calls `host`, one of the settings: a server, or a cluster."""
    from ..layers.server import Server, is_cluster
    from .client import Client

    if not is_cluster(host):
        return Client(Server(host, timeout))
    from .cluster_client import ClusterClient

    return ClusterClient(host, timeout)
