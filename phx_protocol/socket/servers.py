"""ChannelServers: the channel servers of one connection."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from ..conf import Options
from .admission import Admission
from .channel import Channel
from .throttle import Rates, Throttles, parse_rates, retry_after

if TYPE_CHECKING:
    from .server import ChannelServer


class ChannelServers(dict[str, "ChannelServer"]):
    """Topic -> channel server; also the places and rates that the channels of one connection share."""

    __slots__ = ("admission", "rates", "_by_class")

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.admission = Admission(options.max_channels)
        rates = _rates(options)
        self.rates = Throttles(rates) if rates else None  # over all channels
        self._by_class: dict[type[Channel], Throttles] | None = None

    def wait(self, event: Any) -> float:
        """Return the seconds that the client has to wait before it may send `event`; 0 for now."""
        if self.rates is None:
            return 0.0
        return retry_after(self.rates.of(event), time.monotonic())

    def throttles(self, channel_class: type[Channel]) -> Throttles | None:
        """Return the rates that all channels of `channel_class` on this connection share."""
        rates = channel_class.__phx_tables__.rates
        if not rates:
            return None
        self._by_class = self._by_class or {}
        return self._by_class.setdefault(channel_class, Throttles(rates))

    def forget(self, server: ChannelServer) -> None:
        """Drop `server`, which has neither channel nor mail."""
        if self.get(server.topic) is server:
            del self[server.topic]


@functools.cache
def _rates(options: Options) -> Rates:
    return parse_rates(options.throttle)
