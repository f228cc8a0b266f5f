"""What a message costs here, next to the limit and to what one would write by hand.

python -m benchmarks.bench [--quick] [--only MODE] [--servers L,N,frames,...] [--write | --curves]

Prints one markdown table; benchmarks/README.md says how to read it. `--write` measures the
curves too, and puts all of it between the marks in docs/performance.md, docs/capacity.md and
README.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import capacity, curves
from benchmarks.phxload import raise_fd_limit
from benchmarks.rows import ROWS
from benchmarks.runs import CONTENDERS, OURS, Figure, Found, drive, together
from tests.support import servers

LOAD: dict[str, dict[str, Any]] = {
    "fanout": {"sockets": 1000, "count": 50},
    "paced": {"sockets": 1000, "rate": 10, "duration": 4},
    "relay": {"sockets": capacity.RELAYED, "rate": 200, "duration": 4},
    "echo": {"sockets": 100, "duration": 3},
    "join": {"cycles": 1000},
    "idle": {"sockets": 5000, "quiet": 5},
    "presence": {"cycles": 50},
}
QUICK: dict[str, dict[str, Any]] = {
    "paced": {"duration": 2},
    "relay": {"duration": 2},
    "echo": {"duration": 1},
    "join": {"cycles": 200},
    "idle": {"sockets": 300, "quiet": 2},
    "presence": {"cycles": 15},
}
# N takes so long that it gets less of the same
FEWER: dict[str, dict[str, Any]] = {
    "fanout": {"count": 5},
    "paced": {"rate": 1},
    "relay": {"rate": 50},
    "idle": {"sockets": 300},
}
#: the mode of phxload, where it has another name
DRIVEN = {"relay": "paced"}
#: what more than one process has something to say of
SEVERAL = ("paced", "relay")
#: times that all servers are measured in turn: what else the machine does hits them alike
PASSES = 3


def load_of(mode: str, name: str, quick: bool) -> dict[str, Any]:
    load = {"rounds": 3 if quick else 1, **LOAD[mode]}
    load.update({} if mode in OURS else {"payload": 100, "wait": 10})
    load.update(QUICK.get(mode, {}) if quick else {})
    load.update(FEWER.get(mode, {}) if name == "N" else {})
    return load


def wanted(mode: str, names: list[str]) -> list[str]:
    apart = {"L", "N"} if mode in OURS else set()
    return [
        name
        for name in names
        if name not in apart and (CONTENDERS[name].processes == 1 or mode in SEVERAL)
    ]


def measure(
    mode: str, names: list[str], quick: bool, redis: servers.Server
) -> dict[str, Found]:
    """server -> what it needed."""
    passes: dict[str, list[Found]] = {name: [] for name in wanted(mode, names)}
    for number in range(1 if quick else PASSES):
        for name, results in passes.items():
            print(f"{mode} {number + 1}: {CONTENDERS[name].title}", file=sys.stderr)
            load = load_of(mode, name, quick)
            results.append(drive(DRIVEN.get(mode, mode), name, load, redis))
    return {name: together(results) for name, results in passes.items()}


def ratio(figure: Figure, baseline: Figure | None) -> str:
    if baseline is None or not baseline["median"]:
        return ""
    return f"{figure['median'] / baseline['median']:.2g}"


HEAD = [
    *("load", "server", "median", "min … max", "÷ L", "÷ N"),
    *("Phoenix: Bandit / Cowboy", "target", "lost"),
]


def table(mode: str, load: dict[str, Any], found: dict[str, Found]) -> list[list[str]]:
    """The rows of one mode; `found`: server -> what drive() returned."""
    made = []
    for row in ROWS[mode]:
        figures = {name: summary[row.key] for name, summary in found.items()}
        limit = figures.get("L")
        for name, figure in figures.items():
            made.append(
                [
                    row.title.format_map(load),
                    CONTENDERS[name].title,
                    f"{figure['median']:.2f}",
                    f"{figure['min']:.2f} … {figure['max']:.2f}",
                    ratio(figure, limit),
                    ratio(figure, figures.get("N")),
                    row.phoenix if name == "L" else "",
                    row.verdict(
                        name, figure["median"], limit["median"] if limit else None
                    ),
                    f"{found[name]['lost']['max']:.0f}",
                ]
            )
    return made


def brief(mode: str, load: dict[str, Any], found: dict[str, Found]) -> list[list[str]]:
    """The rows of one mode in the README: only what a reader compares."""
    made = []
    for row in ROWS[mode]:
        if row.phoenix:
            mine, other = found["frames"][row.key], found["N"].get(row.key)
            limit = None if row.is_absolute else found["L"][row.key]
            made.append(
                [
                    _brief(row.title.format_map(load)),
                    _in_l(mine, limit),
                    row.phoenix,
                    _in_l(other, limit) if other else "",
                ]
            )
    return made


def _brief(title: str) -> str:
    # the unit is L
    title = title.replace("CPU µs per", "a").replace("CPU µs each", "each")
    return title.removesuffix(", ms")


def _in_l(figure: Figure, limit: Figure | None) -> str:
    if limit is None:
        return f"{figure['median']:.0f}"
    return f"{figure['median'] / limit['median']:.2g} L"


def markdown(head: list[str], rows: list[list[str]], left: int) -> str:
    lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def circumstances() -> str:
    """When, where and with what the figures were measured."""
    with open("/proc/cpuinfo") as cpuinfo:
        names = re.findall(r"model name\s*: (.+)", cpuinfo.read())
    packages = ("django", "channels", "uvicorn", "uvloop", "websockets", "daphne")
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    return (
        f"{datetime.date.today():%Y-%m-%d}, {os.cpu_count()} cores of "
        f"{names[0] if names else platform.machine()}, "
        f"Python {platform.python_version()}, {versions}."
    )


def write(name: str, text: str, mark: str = "bench") -> None:
    """Put `text` between the marks of a file."""
    path = servers.ROOT / name
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def write_tables(found: dict[str, dict[str, Found]]) -> None:
    """All tables that README and docs have of this run."""
    when = circumstances()
    write("docs/performance.md", f"{whole(found)}\n\n{when}")
    short = [
        row
        for mode, of_mode in found.items()
        for row in brief(mode, load_of(mode, "frames", False), of_mode)
    ]
    head = ["", "phx_protocol", "Phoenix 1.8.12", "a consumer by hand"]
    write("README.md", f"{markdown(head, short, 1)}\n\n{when}")
    costs = capacity.Costs.of(found)
    measured = markdown(["what", "costs"], capacity.parts(costs), 1)
    write("docs/capacity.md", f"{measured}\n\n{when}")
    write(
        "docs/capacity.md", markdown(capacity.HEAD, capacity.loads(costs), 1), "loads"
    )


def whole(found: dict[str, dict[str, Found]], quick: bool = False) -> str:
    rows = [
        row
        for mode, of_mode in found.items()
        for row in table(mode, load_of(mode, "frames", quick), of_mode)
    ]
    return markdown(HEAD, rows, 2)


def write_curves(redis: servers.Server) -> None:
    """The curves, measured, drawn, and as tables."""
    parts = []
    for series in curves.SERIES:
        found = curves.measure(series, redis)
        for chart in series.charts:
            path = curves.draw(chart, series, found)
            picture = f"![{chart.title}]({path.relative_to(path.parent.parent)})"
            head, *rows = curves.table(chart, series, found)
            parts.append(f"{picture}\n\n{markdown(head, rows, 1)}")
    write("docs/performance.md", "\n\n".join([*parts, circumstances()]), "curves")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="less of everything")
    p.add_argument("--only", choices=ROWS, action="append", metavar="MODE")
    p.add_argument(
        "--servers", default=",".join(CONTENDERS), help="default: %(default)s"
    )
    p.add_argument("--write", action="store_true", help="into the README and the docs")
    p.add_argument(
        "--curves", action="store_true", help="only the curves, into the docs"
    )
    o = p.parse_args()
    o.servers = o.servers.split(",")
    if not set(o.servers) <= set(CONTENDERS):
        p.error(f"the servers are {', '.join(CONTENDERS)}")
    if o.write and (o.only or o.quick or o.servers != list(CONTENDERS)):
        p.error("--write is for a whole run")
    return o


def main() -> None:
    o = parse()
    raise_fd_limit(25_000)
    with tempfile.TemporaryDirectory() as directory:
        with servers.redis(Path(directory)) as redis:
            if o.curves:
                return write_curves(redis)
            found = {
                mode: measure(mode, o.servers, o.quick, redis)
                for mode in o.only or ROWS
            }
            print(f"{whole(found, o.quick)}\n\n{circumstances()}")
            if o.write:
                write_tables(found)
                write_curves(redis)


if __name__ == "__main__":
    main()
