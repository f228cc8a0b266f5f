"""The rows of the table: what each load measures, what Phoenix needs, and what we want to reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.modes import ROOMS

#: the aim, and the floor that may not be missed
Target = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of a load. `targets` and `phoenix` are multiples of the figure of `base` in the same
    run, or in the unit itself if there is no base."""

    title: str
    key: str
    targets: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    #: Phoenix 1.8.12 on a machine of this kind: Bandit / Cowboy
    phoenix: str = ""
    base: str = "L"
    is_more_better: bool = False
    #: what Redis may need for one, in microseconds
    redis: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    #: the end of the names of all figures of this row: a rate, where a load has several
    at: str = ""

    @property
    def unit(self) -> str:
        return {"": "", "L": " L"}.get(self.base, f" × {self.base}")

    @property
    def redis_key(self) -> str:
        return self.key.replace("cpu_us", "beside_us")

    def verdict(self, server: str, figure: float, base: float | None) -> str:
        """Say whether `server` reached its target, `base` being the figure of the base."""
        if server not in self.targets or (self.base and not base):
            return ""
        reached = figure / base if self.base and base else figure
        return judge(reached, self.targets[server], self.unit, self.is_more_better)

    def redis_verdict(self, server: str, figure: float) -> str:
        if server not in self.redis:
            return ""
        return f"Redis {judge(figure, self.redis[server], ' µs')}"


def judge(
    reached: float, target: Target, unit: str, is_more_better: bool = False
) -> str:
    aim, floor = target
    sign = -1 if is_more_better else 1
    if sign * reached <= sign * aim:
        return f"{aim:,g}{unit}: met"
    if sign * reached <= sign * floor:
        return f"{aim:,g}{unit}: missed, within {floor:,g}{unit}"
    return f"{floor:,g}{unit}: **missed**"


def _same(value: float) -> Target:
    return value, value


#: (size of a room, messages a second): what these rows have besides
_SMALL: dict[tuple[int, int], dict[str, Any]] = {
    (2, 2000): {"targets": {"two": _same(2.3)}},
    (5, 500): {"targets": {"two": _same(2.5)}},
    (5, 2000): {
        "targets": {"two": _same(2.0), "frames": _same(1.6)},
        "redis": {"two": _same(28)},
    },
    (50, 1000): {"targets": {"two": _same(620)}, "base": ""},
}


def _small(size: int, rate: int) -> Row:
    title = f"rooms of {size}, {rate:,} messages a second: CPU µs per message"
    more = {"base": "memory", "at": f"_{rate}", **_SMALL.get((size, rate), {})}
    return Row(title, "cpu_us_per_message", **more)


def _absolute(title: str, key: str, **more: Any) -> Row:
    return Row(title, key, base="", **more)


ROWS: dict[str, list[Row]] = {
    "fanout": [
        Row(
            "blast of {count} to {sockets:,}: CPU µs per delivery",
            "cpu_us_per_delivery",
            {"frames": (0.4, 1.8), "uvicorn": _same(3.3), "daphne": _same(8)},
            "3.1 / 2.6 L",
        )
    ],
    "paced": [
        Row(
            "paced to {sockets:,}: CPU µs per delivery",
            "cpu_us_per_delivery",
            {
                "frames": (1.4, 1.6),
                "two": _same(1.6 * 1.1),
                "uvicorn": _same(2.3),
                "daphne": _same(8),
            },
            "2.8 / 2.3 L",
        ),
        Row(
            "paced to {sockets:,}: p99 of the latency, ms",
            "p99_ms",
            {"frames": _same(1.2), "uvicorn": _same(1.4)},
            "1.5 / 1.3 L",
        ),
    ],
    "relay": [
        Row(
            "{rate} broadcasts a second to {sockets}: CPU µs per delivery",
            "cpu_us_per_delivery",
        ),
        Row(
            "the same: CPU µs of Redis per delivery",
            "beside_us_per_delivery",
        ),
    ],
    "echo": [
        Row(
            "echo on {sockets:,}: CPU µs per reply",
            "cpu_us_per_reply",
            {"frames": (1.5, 2.2), "uvicorn": _same(2.2), "daphne": _same(5)},
            "3.0 / 2.1 L",
        )
    ],
    "join": [
        Row(
            "connect, join, leave, close: CPU µs each",
            "cpu_us_per_join",
            {"frames": (4.4, 5.5), "uvicorn": _same(5.5), "daphne": _same(13)},
            "4.4 / 4.1 L",
        )
    ],
    "rewind": [
        _absolute(
            "connect, join with a rewind of {rewind}, leave, close: CPU µs each",
            "cpu_us_per_join",
        )
    ],
    "idle": [
        Row(
            "idle {sockets:,}: CPU µs per heartbeat",
            "cpu_us_per_heartbeat",
            {"frames": _same(1.6), "uvicorn": _same(1.8), "daphne": _same(4.6)},
            "2.7 / 2.2 L",
        ),
        Row(
            "idle {sockets:,}: CPU µs per socket and second",
            "quiet_cpu_us_per_socket_per_s",
        ),
        Row(
            "idle {sockets:,}: KiB per socket",
            "rss_kib_per_socket",
            {"frames": (21, 26), "uvicorn": _same(26), "daphne": _same(28)},
            "28 / 21",
            base="",
        ),
    ],
    "presence": [
        Row(f"{what} {count:,} presences: CPU µs", f"{key}_{count}")
        for key, what in (
            ("join", "join and leave of a topic with"),
            ("list", "list of"),
        )
        for count in (100, 1000, 5000)
    ],
    **{
        f"rooms{size}": [_small(size, rate) for rate in ROOMS[size][1]]
        for size in ROOMS
    },
    "storm": [
        _absolute(
            "connect and join, topic new to the process: CPU µs",
            "cpu_us_per_join",
            targets={"memory": _same(300), "tuned": _same(200)},
        )
    ],
    "most": [
        _absolute(
            "rooms of {size}, Redis 2 ms away: messages a second with a p99 below 50 ms",
            "messages_per_s",
            targets={"two": _same(3000)},
            is_more_better=True,
        )
    ],
    "outbox": [
        _absolute(
            "a transaction that writes a row of the outbox: CPU µs more", "request"
        ),
        _absolute("a relay, PostgreSQL: CPU µs per row", "relay"),
        _absolute("the same, on topics with a history: CPU µs per row", "relay_kept"),
        _absolute(
            "a relay, PostgreSQL: rows a second",
            "rows_per_s",
            targets={"frames": _same(1000)},
            is_more_better=True,
        ),
        _absolute(
            "from the commit to a client: ms, median",
            "latency_ms",
            targets={"frames": _same(20)},
        ),
        _absolute("from the commit to a client: ms, p99", "latency_p99_ms"),
    ],
    "first": [
        _absolute(
            "{sockets} sockets join {topics} new topics each at once, Redis 2 ms away: s until the last is answered",
            "seconds",
            targets={"frames": _same(3)},
        )
    ],
}
