"""The curves: how a figure grows with the number of sockets and of topics, as SVG in docs/curves."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.runs import CONTENDERS, Found, drive
from tests.support import servers

DIRECTORY = servers.ROOT / "docs" / "curves"
COLORS = {
    "N": "#d62728",
    "uvicorn": "#ff7f0e",
    "frames": "#1f5fbf",
    "two": "#2ca02c",
    "L": "#7f7f7f",
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """One picture, and the figure that it shows."""

    name: str
    title: str
    key: str
    unit: str
    scale: str = "log"
    fewest: int = 0  # points below this say nothing


@dataclasses.dataclass(frozen=True)
class Series:
    """A load at several sizes: `option` of phxload takes each of `points`."""

    mode: str
    option: str
    points: tuple[int, ...]
    names: tuple[str, ...]
    load: Mapping[str, Any]
    charts: tuple[Chart, ...]


SERIES = (
    Series(
        "paced",
        "sockets",
        (10, 100, 1000, 5000),
        ("N", "uvicorn", "frames", "two", "L"),
        {"rate": 10, "duration": 3, "rounds": 2},
        (
            Chart(
                "delivery",
                "A delivery, at ten broadcasts a second",
                "cpu_us_per_delivery",
                "CPU µs per delivery",
            ),
        ),
    ),
    Series(
        "idle",
        "sockets",
        (1000, 5000, 10_000),
        ("N", "uvicorn", "frames", "L"),
        {"quiet": 0.1, "rounds": 1},
        (
            Chart(
                "memory",
                "A client that has joined and is silent",
                "rss_kib_per_socket",
                "KiB per client",
                scale="linear",
            ),
        ),
    ),
    Series(
        "topics",
        "topics",
        (1, 10, 100, 1000, 10_000, 100_000),
        ("N", "frames", "L"),
        {"count": 2000, "rounds": 3},
        (
            Chart(
                "topics",
                "A broadcast to one of many topics, with a subscriber each",
                "cpu_us_per_broadcast",
                "CPU µs per broadcast",
            ),
            Chart(
                "joins",
                "The first join of a topic, with its group in Redis",
                "cpu_us_per_new_topic",
                "CPU µs per join",
                scale="linear",
                fewest=100,  # the first of all loads what is loaded once
            ),
        ),
    ),
)
#: N falls behind at ten a second: the figure is per delivery all the same
SLOWER = {"rate": 0.5, "duration": 6, "rounds": 1}


def measure(series: Series, redis: servers.Server) -> dict[str, dict[int, Found]]:
    """server -> point -> what it needed."""
    found: dict[str, dict[int, Found]] = {name: {} for name in series.names}
    for point in series.points:
        for name in series.names:
            print(f"{series.mode} {point:,}: {CONTENDERS[name].title}", file=sys.stderr)
            load = {"payload": 100, "wait": 10, **series.load, series.option: point}
            if name == "N" and series.mode == "paced":
                load.update(SLOWER)
            found[name][point] = drive(
                ("benchmarks.phxload", series.mode), name, load, redis
            )
    return found


def figures(
    chart: Chart, found: Mapping[str, Mapping[int, Found]]
) -> dict[str, dict[int, float]]:
    """server -> point -> the figure of `chart`."""
    return {
        name: {
            point: summary[chart.key]["median"]
            for point, summary in points.items()
            if point >= chart.fewest
        }
        for name, points in found.items()
    }


def table(
    chart: Chart, series: Series, found: Mapping[str, Mapping[int, Found]]
) -> list[list[str]]:
    """What the picture shows: its head, and a row for each server."""
    points = [point for point in series.points if point >= chart.fewest]
    rows = [
        [CONTENDERS[name].title, *(f"{figure:.1f}" for figure in drawn.values())]
        for name, drawn in figures(chart, found).items()
    ]
    return [[f"{chart.unit}, {series.option}:", *(f"{p:,}" for p in points)], *rows]


def draw(
    chart: Chart, series: Series, found: Mapping[str, Mapping[int, Found]]
) -> Path:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "phx_protocol", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for name, drawn in figures(chart, found).items():
        axes.plot(
            [*drawn],
            [*drawn.values()],
            marker="o",
            color=COLORS[name],
            label=CONTENDERS[name].title,
        )
    axes.set(title=chart.title, xlabel=series.option, ylabel=chart.unit, xscale="log")
    axes.set(
        yscale=chart.scale, **({"ylim": (0, None)} if chart.scale == "linear" else {})
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    DIRECTORY.mkdir(exist_ok=True)
    path = DIRECTORY / f"{chart.name}.svg"
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return path
