"""Delivering broadcasts: in this process at once, to other processes over the channel layer.

Each process (event loop) is one node with one channel on the channel layer, for any number of
sockets. So a broadcast crosses the layer once per process, as in Phoenix, and each process encodes
it once per serializer.
"""

from .message import group_name

__all__ = ["group_name"]
