"""Channel layers of this package, for any code on Django Channels; they know nothing of sockets."""

from .inbox import Listener
from .redis import RedisLayer

__all__ = ["Listener", "RedisLayer"]
