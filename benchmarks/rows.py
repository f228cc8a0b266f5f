"""The rows of the table: what each load measures, what Phoenix needs, and what we want to reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

#: what may not be exceeded: the aim, and the floor that may not be missed
Target = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of a load. `targets` and `phoenix` are multiples of L's figure in the same run,
    `absolute` ones are in the unit itself."""

    title: str
    key: str
    targets: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    #: Phoenix 1.8.12 on a machine of this kind: Bandit / Cowboy
    phoenix: str = ""
    is_absolute: bool = False

    def verdict(self, server: str, figure: float, limit: float | None) -> str:
        """What became of the target of `server`, `limit` being L's figure."""
        if server not in self.targets or not (limit or self.is_absolute):
            return ""
        aim, floor = self.targets[server]
        reached = figure if self.is_absolute else figure / (limit or 1)
        unit = "" if self.is_absolute else " L"
        if reached <= aim:
            return f"{aim:g}{unit}: met"
        if reached <= floor:
            return f"{aim:g}{unit}: missed, within {floor:g}{unit}"
        return f"{floor:g}{unit}: **missed**"


def _same(value: float) -> Target:
    return value, value


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
            is_absolute=True,
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
}
