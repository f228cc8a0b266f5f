"""Broadcasts: to the subscribers of this process at once, to the other processes by the layer.

Each process (event loop) is one node with one channel on the channel layer, whatever the
number of its sockets: a broadcast crosses the layer once per process, as in Phoenix, and is
encoded once per serializer there.
"""

from .api import (
    abroadcast,
    abroadcast_from,
    adisconnect,
    adisconnect_user,
    areauthorize,
    broadcast,
    broadcast_from,
    broadcast_on_commit,
    disconnect,
    disconnect_user,
    local_broadcast,
    reauthorize,
    reply,
)
from .message import group_name
from .node import PubSub, get_pubsub

__all__ = [
    "PubSub",
    "abroadcast",
    "abroadcast_from",
    "adisconnect",
    "adisconnect_user",
    "areauthorize",
    "broadcast",
    "broadcast_from",
    "broadcast_on_commit",
    "disconnect",
    "get_pubsub",
    "disconnect_user",
    "group_name",
    "local_broadcast",
    "reauthorize",
    "reply",
]
