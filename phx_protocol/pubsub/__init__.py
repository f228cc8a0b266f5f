"""Broadcasts: to the subscribers of this process at once, to the other processes by the layer.

Each process (event loop) is one node with one channel on the channel layer, whatever the
number of its sockets: a broadcast crosses the layer once per process, as in Phoenix, and is
encoded once per serializer there.
"""

from .api import (
    abroadcast,
    abroadcast_from,
    aclose_topic,
    adisconnect,
    adisconnect_socket,
    adisconnect_user,
    adrain,
    areauthorize,
    broadcast,
    broadcast_from,
    broadcast_on_commit,
    close_topic,
    disconnect,
    disconnect_socket,
    disconnect_user,
    drain,
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
    "aclose_topic",
    "adisconnect",
    "adisconnect_socket",
    "adisconnect_user",
    "adrain",
    "areauthorize",
    "broadcast",
    "broadcast_from",
    "broadcast_on_commit",
    "close_topic",
    "disconnect",
    "disconnect_socket",
    "get_pubsub",
    "disconnect_user",
    "drain",
    "group_name",
    "local_broadcast",
    "reauthorize",
    "reply",
]
