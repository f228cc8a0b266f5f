"""What a load needs, by calculation from what the parts of it were measured to cost."""

from __future__ import annotations

import dataclasses
import math

from benchmarks.runs import Found

#: how busy a process, and Redis, may be on average: the rest is for bursts and rejoins
BUSY = 0.6
#: clients of one process at the most: its restart sends that many elsewhere
CLIENTS = 20_000
#: MiB of a process without clients: Django and a small project
PROCESS_MIB = 60
#: seconds between two heartbeats of phoenix.js
HEARTBEAT = 30
#: the sockets of the mode "relay"
RELAYED = 10


@dataclasses.dataclass(frozen=True)
class Costs:
    """CPU microseconds each, but for `kib`."""

    delivery: float
    push: float  # and its reply
    join: float  # connect, join, leave, close
    heartbeat: float
    kib: float  # resident, of a client
    publish: float  # a broadcast, in the process that makes it
    receive: float  # a broadcast, in each process that has subscribers
    redis_publish: float
    redis_receive: float

    @classmethod
    def of(cls, found: dict[str, dict[str, Found]]) -> Costs:
        """From what was found: mode -> server -> figures."""

        def median(mode: str, key: str, name: str = "frames") -> float:
            return found[mode][name][key]["median"]

        delivery = median("paced", "cpu_us_per_delivery")
        one, two = (
            RELAYED * median("relay", "cpu_us_per_delivery", name)
            for name in ("frames", "two")
        )
        redis_one, redis_two = (
            RELAYED * median("relay", "beside_us_per_delivery", name)
            for name in ("frames", "two")
        )
        receive, redis_receive = max(two - one, 0), max(redis_two - redis_one, 0)
        return cls(
            delivery,
            median("echo", "cpu_us_per_reply"),
            median("join", "cpu_us_per_join"),
            median("idle", "cpu_us_per_heartbeat"),
            median("idle", "rss_kib_per_socket"),
            max(one - receive - RELAYED * delivery, 0),
            receive,
            max(redis_one - redis_receive, 0),
            redis_receive,
        )


@dataclasses.dataclass(frozen=True)
class Load:
    """`messages` a second, of all clients together, each to the `room` clients of one topic."""

    title: str
    clients: int
    room: int
    messages: float


LOADS = (
    Load("notifications, each to one client", 10_000, 1, 100),
    Load("chat in rooms of 50, a message a minute from each", 10_000, 50, 167),
    Load("editors in rooms of 5, two messages a second from each", 10_000, 5, 20_000),
    Load("one topic for all, a message a second", 100_000, 100_000, 1),
    Load("notifications, each to one client", 100_000, 1, 1000),
    Load("chat in rooms of 50, a message a minute from each", 100_000, 50, 1667),
    Load("notifications, each to one client", 1_000_000, 1, 10_000),
    Load("chat in rooms of 50, a message a minute from each", 1_000_000, 50, 16_667),
)


@dataclasses.dataclass(frozen=True)
class Need:
    """What a Load needs: processes (a core each), GiB for all of them, and cores of Redis."""

    processes: int
    gib: float
    redis_cores: float
    redis_shards: int
    rejoin_seconds: (
        float  # the CPU of another process for the clients of one that is gone
    )


def need(load: Load, costs: Costs) -> Need:
    """The fewest processes of which none has more than BUSY to do, nor more than CLIENTS."""
    processes = max(1, math.ceil(load.clients / CLIENTS))
    while _busy(load, costs, processes) > BUSY * processes:
        processes = max(processes + 1, math.ceil(_busy(load, costs, processes) / BUSY))
    listening = min(processes, load.room)
    redis = load.messages * (costs.redis_publish + listening * costs.redis_receive)
    mib = load.clients * costs.kib / 1024 + processes * PROCESS_MIB
    return Need(
        processes,
        mib / 1024,
        redis / 1e6,
        max(1, math.ceil(redis / 1e6 / BUSY)),
        load.clients / processes * costs.join / 1e6,
    )


def _busy(load: Load, costs: Costs, processes: int) -> float:
    """Cores that are busy on average."""
    listening = min(processes, load.room)  # the clients of a room are anywhere
    message = costs.push + costs.publish + listening * costs.receive
    us = load.messages * (message + load.room * costs.delivery)
    return (us + load.clients / HEARTBEAT * costs.heartbeat) / 1e6


PARTS = {
    "delivery": "a delivery to a client, µs",
    "push": "a push of a client and its reply, µs",
    "join": "connect, join, leave and close, µs",
    "heartbeat": "a heartbeat, µs",
    "kib": "a client that is silent, KiB",
    "publish": "a broadcast, in the process that makes it, µs",
    "receive": "a broadcast, in each process that has clients there, µs",
    "redis_publish": "a broadcast, in Redis, µs",
    "redis_receive": "and in Redis for each of those processes, µs",
}


def parts(costs: Costs) -> list[list[str]]:
    return [[title, f"{getattr(costs, part):.0f}"] for part, title in PARTS.items()]


HEAD = [
    *("load", "clients", "messages/s", "deliveries/s", "processes"),
    *("memory, GiB", "cores of Redis", "Redis shards", "rejoin, s of CPU"),
]


def loads(costs: Costs) -> list[list[str]]:
    made = []
    for load in LOADS:
        needed = need(load, costs)
        made.append(
            [
                load.title,
                f"{load.clients:,}",
                f"{load.messages:,.0f}",
                f"{load.messages * load.room:,.0f}",
                f"{needed.processes:,}",
                f"{needed.gib:.1f}",
                f"{needed.redis_cores:.2f}",
                f"{needed.redis_shards}",
                f"{needed.rejoin_seconds:.1f}",
            ]
        )
    return made
