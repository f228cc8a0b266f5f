"""The loads: what drives each, how much of it, and which servers get it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

ALONE = ("frames", "uvicorn", "daphne")
EACH = ("L", "N", *ALONE)
SEVERAL = ("L", "N", "frames", "two", "core", "uvicorn", "daphne")
SMALL = ("memory", "frames", "two", "pubsub", "pubsub2")
#: two processes on one Redis, on three, on a cluster
SPREAD = ("two", "three", "cluster")
#: four processes, with the clients of a room anywhere, or in one of them
APART = ("four", "together")


@dataclasses.dataclass(frozen=True)
class Mode:
    """`driver` is a module of this package with the name of its mode, if it has several; `load`
    its options, of which `quick` and `fewer` replace some: in a quick run, and for N, which is so
    slow that it gets less of the same."""

    driver: tuple[str, ...]
    load: Mapping[str, Any]
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fewer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    servers: tuple[str, ...] = EACH
    #: milliseconds of a round trip to Redis beyond what the machine needs
    redis_ms: float = 0

    def options(self, server: str, quick: bool) -> dict[str, Any]:
        chosen = {"rounds": 3 if quick else 1, **self.load}
        chosen.update(self.quick if quick else {})
        chosen.update(self.fewer if server == "N" else {})
        return chosen


def _phxload(mode: str, load: Mapping[str, Any], **more: Any) -> Mode:
    options = {"payload": 100, "wait": 10, **load}
    return Mode(("benchmarks.phxload", mode), options, **more)


def _rooms(mode: str, load: Mapping[str, Any], **more: Any) -> Mode:
    options = {"payload": 100, "wait": 10, **load}
    return Mode(("benchmarks.rooms", mode), options, **more)


#: size of a room: how many there are, and the messages a second in all of them together
ROOMS = {
    2: (500, (500, 2000, 5000)),
    5: (200, (500, 2000, 5000)),
    50: (20, (500, 1000, 2000)),
}


def _small(size: int) -> Mode:
    rooms, rates = ROOMS[size]
    listed = ",".join(map(str, rates))
    load = {"size": size, "rooms": rooms, "rates": listed, "duration": 3}
    several = tuple(dict.fromkeys((*SMALL, *SPREAD, *APART))) if size == 5 else SMALL
    return _rooms("rooms", load, quick={"duration": 1}, servers=several)


MODES = {
    "fanout": _phxload("fanout", {"sockets": 1000, "count": 50}, fewer={"count": 5}),
    "paced": _phxload(
        "paced",
        {"sockets": 1000, "rate": 10, "duration": 4},
        quick={"duration": 2},
        fewer={"rate": 1},
        servers=SEVERAL,
    ),
    "relay": _phxload(
        "paced",
        {"sockets": 10, "rate": 200, "duration": 4},
        quick={"duration": 2},
        fewer={"rate": 50},
        servers=SEVERAL,
    ),
    "echo": _phxload("echo", {"sockets": 100, "duration": 3}, quick={"duration": 1}),
    "join": _phxload("join", {"cycles": 1000}, quick={"cycles": 200}),
    "rewind": _phxload(
        "join", {"cycles": 1000, "rewind": 50}, quick={"cycles": 200}, servers=ALONE
    ),
    "idle": _phxload(
        "idle",
        {"sockets": 5000, "quiet": 5},
        quick={"sockets": 300, "quiet": 2},
        fewer={"sockets": 300},
    ),
    "presence": Mode(
        ("benchmarks.presence",),
        {"cycles": 50},
        quick={"cycles": 15},
        servers=(*ALONE, *SPREAD),
    ),
    **{f"rooms{size}": _small(size) for size in ROOMS},
    "storm": _rooms(
        "storm",
        {"joins": 1000, "at-once": 100},
        quick={"joins": 500},
        servers=("memory", "tuned", "frames", "two", "pubsub", "pubsub2"),
    ),
    "most": _rooms(
        "most",
        {
            **{"size": 2, "rooms": 500, "duration": 2},
            "rates": "500,1000,2000,3000,4000,5000,6000,8000",
        },
        quick={"duration": 1, "rounds": 1},
        servers=("two", "pubsub2"),
        redis_ms=2,
    ),
    "outbox": Mode(
        ("benchmarks.outbox",),
        {"rows": 4000, "commits": 500},
        quick={"rows": 1000, "commits": 100},
        servers=("frames",),
    ),
    "first": _rooms(
        "first",
        {"sockets": 100, "topics": 50},
        servers=("frames", "pubsub"),
        redis_ms=2,
    ),
}
