"""What is there: sampled every few seconds, from what there is.

Nothing is added when a thing comes and taken away when it goes: a gauge that is counted in that
way drifts for good with the first end that is not told.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from ... import signals
from ...node.node import Node, serving_nodes
from ...node.part import Part
from .counters import dotted

if TYPE_CHECKING:
    from ...socket.socket import Socket

#: between two samples
SECONDS = 2.0


class Level:
    """A gauge by labels. What is not there any more is 0: it does not stay as it was."""

    def __init__(self, name: str, documentation: str, labels: list[str]) -> None:
        self._gauge = Gauge(name, documentation, labels, multiprocess_mode="livesum")
        self._seen: set[tuple[str, ...]] = set()

    def set(self, counts: Mapping[tuple[str, ...], int]) -> None:
        self._seen |= counts.keys()
        for labels in self._seen:
            self._gauge.labels(*labels).set(counts.get(labels, 0))


SOCKETS = Level("phx_sockets", "Open connections", ["socket", "transport"])
CHANNELS = Level("phx_channels", "Channels that clients have joined", ["channel"])
FAILING = Level(
    "phx_failing",
    "Processes whose channel layer or state fails at the moment",
    ["what"],
)
BUFFERED = Gauge(
    "phx_buffered_bytes",
    "Bytes that wait for slow clients",
    multiprocess_mode="livesum",
)
BUFFERED_MAX = Gauge(
    "phx_buffered_bytes_max",
    "Bytes that wait for the slowest client",
    multiprocess_mode="livemax",
)


def sample() -> None:
    """Set the gauges to what this process has now, on all of its event loops."""
    nodes = serving_nodes()
    found = [connection for node in nodes for connection in node.connections]
    buffered = [connection.transport.pending_bytes() for connection in found]
    joined = Counter(type(channel) for each in found for channel in each.joined())
    SOCKETS.set(Counter((dotted(type(c.socket)), c.transport.name) for c in found))
    CHANNELS.set({(dotted(cls),): count for cls, count in joined.items()})
    BUFFERED.set(sum(buffered))
    BUFFERED_MAX.set(max(buffered, default=0))
    FAILING.set(
        {
            ("layer",): sum(node.layer.is_failing for node in nodes),
            ("state",): sum(node.heartbeat.is_down for node in nodes),
        }
    )


class Sampler(Part):
    """Samples while its node has sockets, and at once when the last of them has gone.

    A process that goes down has closed its sockets by then, and leaves nothing to the others.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._timer: asyncio.Handle | None = None

    def connected(self) -> None:
        if self._timer is None:
            self._timer = self.node.loop.call_soon(self._sample)

    def _sample(self) -> None:
        self._timer = None
        sample()
        if self.node.connections:
            self._timer = self.node.loop.call_later(SECONDS, self._sample)

    def disconnected(self) -> None:
        if not self.node.connections:
            if self._timer is not None:
                self._timer.cancel()
            self._sample()


def _connected(sender: Any, socket: Socket, result: str, **kwargs: Any) -> None:
    if result == "ok":
        socket.__phx__.node.part(Sampler).connected()


def _disconnected(sender: Any, socket: Socket, **kwargs: Any) -> None:
    socket.__phx__.node.part(Sampler).disconnected()


RECEIVERS: dict[signals.Signal, Callable[..., None]] = {
    signals.socket_connected: _connected,
    signals.socket_disconnected: _disconnected,
}


def install() -> None:
    """Sample from the next connection on; once more does no harm."""
    for signal, receiver in RECEIVERS.items():
        signal.connect(receiver)
