"""Cuts: notices when Redis has ended a subscription; redis-py makes a new one without any sign.

Messages that were sent in between are lost. With ``channels_redis.core`` nothing is lost: its
lists keep the messages until the reader comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from ..logs import get_logger

logger = get_logger("phx_protocol.pubsub")


class Cuts:
    """Calls `on_cut` whenever a subscribed connection of `layer` is made once more."""

    def __init__(self, layer: Any, on_cut: Callable[[], None]) -> None:
        self._layer = layer
        self._on_cut = on_cut
        self._watched: WeakSet[Any] = WeakSet()

    def watch(self) -> None:
        """Watch all current connections. Called regularly, as there may be new ones."""
        try:
            for connection in self._connections():
                if connection not in self._watched:
                    self._watched.add(connection)
                    # redis-py keeps a weak reference to the method
                    connection.register_connect_callback(self._connected)
        except (
            Exception
        ):  # another version of channels_redis or redis-py may look different
            logger.exception("it cannot be seen whether Redis ends a subscription")

    def _connections(self) -> Iterator[Any]:
        # channels_redis has a parameter ``on_reconnect``, but never calls it
        get_layer = getattr(type(self._layer), "_get_layer", None)
        loop_layer = get_layer(self._layer) if get_layer else None
        for shard in getattr(loop_layer, "_shards", ()):
            connection = getattr(getattr(shard, "_pubsub", None), "connection", None)
            if hasattr(connection, "register_connect_callback"):
                yield connection

    def _connected(self, connection: Any) -> None:
        self._on_cut()
