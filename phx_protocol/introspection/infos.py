"""The values that describe a node, a topic, a socket and a history."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, TypeVar

Info = TypeVar("Info")


@dataclasses.dataclass(frozen=True)
class NodeInfo:
    """A live process (event loop) that serves sockets or tracks presences.

    `started_at` is in seconds of the epoch. `sockets` and `load` (the share of one CPU that its
    process used) are those of its last beat. `address` is its channel on the channel layer, or
    None. `versions` are those of "python", "django", "channels" and "phx_protocol" in its process.
    `round_trips` are the seconds that each server of the state needed for an answer at that beat, and
    `servers` those of them that are in use, as far as that process knows.
    """

    name: str
    host: str
    pid: int
    started_at: float
    sockets: int
    address: str | None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    load: float = 0.0
    is_draining: bool = False
    round_trips: dict[str, float] = dataclasses.field(default_factory=dict)
    servers: list[str] = dataclasses.field(default_factory=list)


def disagree(nodes: Iterable[NodeInfo]) -> bool:
    """Return True if `nodes` use different servers of the state.

    The only server has all topics, whatever it is called.
    """
    lists = {tuple(node.servers) for node in nodes if node.servers}
    return len(lists) > 1 and max(map(len, lists)) > 1


@dataclasses.dataclass(frozen=True)
class TopicInfo:
    """A topic that clients have joined; `nodes` is node name -> subscribers there."""

    topic: str
    subscribers: int
    nodes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class TopicDetails:
    """Details of a topic: the dotted names of its channel classes, how many keys are present, and
    the messages per second of the last seconds (frames of its clients and deliveries to them).
    """

    channels: list[str]
    presences: int
    messages_per_second: float


@dataclasses.dataclass(frozen=True)
class SocketInfo:
    """An open connection.

    `id` is unique, `name` is the result of ``Socket.id()``, `user` the primary key of the user as
    text. `topics` are those that it has joined, and `more_topics` is the number of further ones: the
    answer of a node is limited. `opened_at` and `last_seen` (the last frame or poll) are in seconds
    of the epoch. `buffered_bytes` is how much waits to be sent to the client.
    """

    id: str
    name: str | None
    user: str | None
    username: str | None
    node: str
    transport: str
    opened_at: float
    topics: list[str]
    last_seen: float = 0.0
    buffered_bytes: int = 0
    more_topics: int = 0


@dataclasses.dataclass(frozen=True)
class HistoryInfo:
    """The history of a topic: it keeps `kept` broadcasts now and at most `size`, with one of `events`
    (None: all), for `ttl` seconds. `offset` is that of its last broadcast; None if there was none.
    """

    size: int
    ttl: float
    events: list[str] | None
    kept: int
    offset: str | None


@dataclasses.dataclass(frozen=True)
class LatencyInfo:
    """How long changes in the database took to reach the processes of a topic's clients, in seconds.

    The percentiles are over the last `count` deliveries, at most 100 of each process.
    """

    count: int
    p50: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, latencies: Sequence[float]) -> LatencyInfo | None:
        """Return those of `latencies`; None if there are none."""
        if not latencies:
            return None
        ordered = sorted(latencies)
        # the one that so many of a hundred do not exceed
        at = [ordered[ceil(len(ordered) * p / 100) - 1] for p in (50, 95, 99)]
        return cls(len(ordered), at[0], at[1], at[2], ordered[-1])


def from_answer(info: type[Info], answer: dict[str, Any]) -> Info:
    """Build `info` from a node's answer; unknown fields are ignored, missing ones get their default.

    The node may run another version.
    """
    fields: Any = info
    names = [field.name for field in dataclasses.fields(fields)]
    return info(**{name: answer[name] for name in names if name in answer})
