"""What is told of a node, a topic, a socket, a history: values."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

Info = TypeVar("Info")


@dataclasses.dataclass(frozen=True)
class NodeInfo:
    """A live process (event loop) that serves sockets or tracks presences.

    `started_at` is in seconds of the epoch; `sockets` and `load` (the share of one CPU that its
    process used) are as of its last beat. `address` is its channel on the channel layer, if it
    has one; `versions` those of "python", "django", "channels" and "phx_protocol" there.
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


@dataclasses.dataclass(frozen=True)
class TopicInfo:
    """A topic that clients have joined; `nodes` is node name -> subscribers there."""

    topic: str
    subscribers: int
    nodes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class TopicDetails:
    """More of a topic: the dotted names of its channel classes, how many keys are present, and
    the frames of its clients and deliveries to them in a second, lately."""

    channels: list[str]
    presences: int
    messages_per_second: float


@dataclasses.dataclass(frozen=True)
class SocketInfo:
    """An open connection: `id` is unique, `name` what ``Socket.id()`` says, `user` the primary
    key as text, `topics` those it has joined, and `more_topics` how many more these are: what a
    node tells at once is limited.

    `opened_at` and `last_seen` (the last frame or poll) are in seconds of the epoch;
    `buffered_bytes` wait for the client.
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
    """What is kept of a topic: `kept` broadcasts of the `size` there may be, of `events` (None:
    all), for `ttl` seconds; `offset` is the place of the last one there was, if any."""

    size: int
    ttl: float
    events: list[str] | None
    kept: int
    offset: str | None


def made(info: type[Info], told: dict[str, Any]) -> Info:
    """`info` of what a node tells, which may be of another version and tell more, or less."""
    fields: Any = info
    names = [field.name for field in dataclasses.fields(fields)]
    return info(**{name: told[name] for name in names if name in told})
