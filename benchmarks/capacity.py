"""What a load needs, by calculation from what the parts of it were measured to cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from benchmarks.modes import ROOMS
from benchmarks.runs import Found

#: how busy a process, and Redis, may be on average: the rest is for bursts and rejoins
BUSY = 0.6
#: clients of one process at the most: its restart sends that many elsewhere
CLIENTS = 20_000
#: MiB of a process without clients: Django and a small project
PROCESS_MIB = 60
#: seconds between two heartbeats of phoenix.js
HEARTBEAT = 30
#: what the calculation takes its figures from
NEEDS = {
    **{"paced": ("frames",), "idle": ("frames",), "storm": ("frames",)},
    **{"rooms5": ("memory", "frames", "two"), "rooms50": ("memory",)},
}
#: the sizes of rooms that the figures come from: a message costs what it costs in small rooms, and
#: each client more of a large one a delivery
SMALL, LARGE = 5, 50
#: messages a second at which both were measured
RATES = ROOMS[SMALL][1]
BOTH = RATES[0]


@dataclasses.dataclass(frozen=True)
class Message:
    """CPU microseconds of a message, in a process that handles a certain number of them a second."""

    handle: float  # the push, its reply, and the broadcast in that process but for deliveries
    publish: float  # and to Redis
    receive: float  # in each other process that has subscribers
    redis_alone: float  # in Redis, if one process has subscribers
    redis_each: float  # and for each process, if several have


@dataclasses.dataclass(frozen=True)
class Costs:
    """CPU microseconds each, but for `kib`."""

    messages: Mapping[int, Message]  # by how many a second
    delivery: float  # to one of few
    wide_delivery: float  # to one of a thousand
    join: float  # connect, and join a topic that is new
    heartbeat: float
    kib: float  # resident, of a client

    @classmethod
    def of(cls, found: Mapping[str, dict[str, Found]]) -> Costs:
        """From what was found: mode -> server -> figures."""

        def median(mode: str, key: str, name: str = "frames") -> float:
            return found[mode][name][key]["median"]

        def message(mode: str, rate: int) -> float:
            return median(mode, f"cpu_us_per_message_{rate}", "memory")

        more = message(f"rooms{LARGE}", BOTH) - message(f"rooms{SMALL}", BOTH)
        delivery = more / (LARGE - SMALL)
        small = found[f"rooms{SMALL}"]
        return cls(
            {rate: _message(small, rate, delivery) for rate in RATES},
            delivery,
            median("paced", "cpu_us_per_delivery"),
            median("storm", "cpu_us_per_join"),
            median("idle", "cpu_us_per_heartbeat"),
            median("idle", "rss_kib_per_socket"),
        )

    def message(self, rate: float) -> Message:
        """Return the costs at so many messages a second, or at the next lower rate that was measured.

        The less a process has to do, the more each message costs.
        """
        lower = [known for known in self.messages if known <= rate]
        return self.messages[max(lower, default=min(self.messages))]

    def deliver(self, room: int) -> float:
        return room * (self.delivery if room <= LARGE else self.wide_delivery)


def _message(small: dict[str, Found], rate: int, delivery: float) -> Message:
    """Take the parts from one process in memory, one on Redis and two: they differ by one part each.

    Each process handles as many messages a second in all three: one of two gets half of the pushes,
    and the other half over Redis.
    """

    def median(what: str, name: str) -> float:
        return small[name][f"{what}_us_per_message_{rate}"]["median"]

    memory, one, two = (median("cpu", name) for name in ("memory", "frames", "two"))
    redis_one, redis_two = (median("beside", name) for name in ("frames", "two"))
    return Message(
        max(memory - SMALL * delivery, 0),
        max(one - memory, 0),
        max(two - one, 0),
        redis_one,
        redis_two / 2,
    )


@dataclasses.dataclass(frozen=True)
class Load:
    """`messages` a second, of all clients together, each to the `room` clients of one topic."""

    title: str
    clients: int
    room: int
    messages: float

    def others(self, processes: int) -> int:
        """Count the processes, at most, that get a message of another one: clients are anywhere, and
        the sender is one of the room, unless nobody else is there."""
        return min(processes - 1, max(self.room - 1, 1))

    def handled(self, processes: int) -> float:
        """Count the messages a second that each process handles: its clients' and the others'."""
        return self.messages * (1 + self.others(processes)) / processes


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
    #: the CPU of another process for the clients of one that is gone
    rejoin_seconds: float


def need(load: Load, costs: Costs) -> Need:
    """The fewest processes of which none has more than BUSY to do, nor more than CLIENTS."""
    processes = max(1, math.ceil(load.clients / CLIENTS))
    while busy(load, costs, processes) > BUSY * processes:
        least = math.ceil(busy(load, costs, processes) / BUSY)
        processes = max(processes + 1, least)
    redis = redis_busy(load, costs, processes)
    mib = load.clients * costs.kib / 1024 + processes * PROCESS_MIB
    return Need(
        processes,
        mib / 1024,
        redis,
        max(1, math.ceil(redis / BUSY)),
        load.clients / processes * costs.join / 1e6,
    )


def busy(load: Load, costs: Costs, processes: int, in_memory: bool = False) -> float:
    """Return how many cores all processes together keep busy on average."""
    message = costs.message(load.handled(processes))
    us = message.handle + costs.deliver(load.room)
    if not in_memory:
        us += message.publish + load.others(processes) * message.receive
    return (load.messages * us + load.clients / HEARTBEAT * costs.heartbeat) / 1e6


def redis_busy(load: Load, costs: Costs, processes: int) -> float:
    message = costs.message(load.handled(processes))
    others = load.others(processes)
    us = (1 + others) * message.redis_each if others else message.redis_alone
    return load.messages * us / 1e6


# ----------------------------------------------------------------------------- the tables

PARTS = {
    "delivery": f"a delivery to a client, in a room of up to {LARGE}, µs",
    "wide_delivery": "a delivery to a client of a topic with a thousand, µs",
    "join": "connect, and join a topic that the process has not got, µs",
    "heartbeat": "a heartbeat, µs",
    "kib": "a client that is silent, KiB",
}
PER_MESSAGE = {
    "handle": "a push of a client, its reply and the broadcast in its process, µs",
    "publish": "the same broadcast to Redis, µs",
    "receive": "and in each other process that has clients there, µs",
    "redis_alone": "the broadcast in Redis, if one process has clients there, µs",
    "redis_each": "and for each process, if several have, µs",
}


def parts(costs: Costs) -> list[list[str]]:
    rows = [[title, f"{getattr(costs, part):.0f}"] for part, title in PARTS.items()]
    return [["what", "costs"], *rows]


def messages(costs: Costs) -> list[list[str]]:
    rates = sorted(costs.messages)
    head = ["messages a second that a process handles:", *(f"{r:,}" for r in rates)]
    rows = [
        [title, *(f"{getattr(costs.messages[r], part):.0f}" for r in rates)]
        for part, title in PER_MESSAGE.items()
    ]
    return [head, *rows]


#: clients of the small rooms
ROOMED = 1000
PROCESSES = (1, 2, 4)


def rooms(costs: Costs) -> list[list[str]]:
    """Make the table of what small rooms need, in cores."""
    head = ["rooms of", "messages/s", "one process in memory", "one on Redis"]
    head += [f"{n} processes" for n in PROCESSES[1:]]
    head += ["Redis with 1", *(f"with {n}" for n in PROCESSES[1:]), "processes"]
    made = [
        _room(Load("", ROOMED, size, rate), costs) for size in ROOMS for rate in RATES
    ]
    return [head, *made]


def _room(load: Load, costs: Costs) -> list[str]:
    alone = _cores(busy(load, costs, 1, in_memory=True), 1)
    shared = [_cores(busy(load, costs, n), n) for n in PROCESSES]
    redis = [_cores(redis_busy(load, costs, n), 1) for n in PROCESSES]
    needed = f"{need(load, costs).processes}"
    return [f"{load.room}", f"{load.messages:,.0f}", alone, *shared, *redis, needed]


def _cores(busy: float, processes: int) -> str:
    too_busy = busy > BUSY * processes
    return f"**{busy:.2f}**" if too_busy else f"{busy:.2f}"


HEAD = [
    *("load", "clients", "messages/s", "deliveries/s", "processes"),
    *("memory, GiB", "cores of Redis", "Redis shards", "rejoin, s of CPU"),
]


def loads(costs: Costs) -> list[list[str]]:
    made = [HEAD]
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
