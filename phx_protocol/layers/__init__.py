"""Channel layers of this package, for any code on Django Channels; they know nothing of sockets."""

from .direct import DirectChannel, Listener
from .redis import RedisLayer

__all__ = ["DirectChannel", "Listener", "RedisLayer"]
