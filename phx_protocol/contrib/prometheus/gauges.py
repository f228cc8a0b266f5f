"""The gauges: the numbers of sockets, channels and bytes, sampled every few seconds.

They are not counted up when a socket opens and down when it closes: such a gauge would stay wrong
for ever after the first close that is missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from ... import signals
from ...node.node import Node, get_node, serving_nodes
from ...node.part import Part
from .counters import dotted

if TYPE_CHECKING:
    from ...socket.socket import Socket

#: seconds between two samples
SECONDS = 2.0


class Level:
    """A gauge with labels. If a label is missing in a sample, its value becomes 0."""

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
#: set by the relays, not with the others
OUTBOX_WAITING = Gauge(
    "phx_outbox_waiting",
    "Rows that wait in the partitions of the relays of this process",
    ["database"],
    multiprocess_mode="livesum",
)
OUTBOX_AGE = Gauge(
    "phx_outbox_age_seconds",
    "Time since the oldest of them was written",
    ["database"],
    multiprocess_mode="livemax",
)


def sample() -> None:
    """Set the gauges to the numbers of this process now, over all of its event loops."""
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
            ("layer",): sum(node.link.is_failing for node in nodes),
            ("state",): sum(
                any(h.is_down for h in node.placement.in_use) for node in nodes
            ),
        }
    )


class Sampler(Part):
    """The part of a node that samples while it has sockets, and once more when the last one closes.

    So a process that stops leaves no numbers behind: it has closed its sockets before.
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
        get_node().part(Sampler).connected()


def _disconnected(sender: Any, socket: Socket, **kwargs: Any) -> None:
    get_node().part(Sampler).disconnected()


def _waiting(sender: Any, database: str, count: int, age: float, **kwargs: Any) -> None:
    OUTBOX_WAITING.labels(database).set(count)
    OUTBOX_AGE.labels(database).set(age)


RECEIVERS: dict[signals.Signal, Callable[..., None]] = {
    signals.socket_connected: _connected,
    signals.socket_disconnected: _disconnected,
    signals.outbox_waiting: _waiting,
}


def install() -> None:
    """Sample from the next connection on; a second call does nothing."""
    for signal, receiver in RECEIVERS.items():
        signal.connect(receiver)
