"""Who gets a broadcast: in this process at once, in the others over the channel layer.

Each process (event loop) is one node with one channel on the channel layer, whatever the
number of its sockets: a broadcast crosses the layer once per process, as in Phoenix, and is
encoded once per serializer there.
"""

from .message import group_name

__all__ = ["group_name"]
