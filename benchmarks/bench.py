"""What a message costs here, next to the limit and to what one would write by hand.

python -m benchmarks.bench [--quick] [--only MODE] [--servers L,N,frames,two,uvicorn,daphne] [--write]

Prints one markdown table; benchmarks/README.md says how to read it. `--write` puts it, and its
short form, between the marks in docs/performance.md and README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.phxload import raise_fd_limit
from benchmarks.rows import NAMES, ROWS
from tests import servers

NAIVE = "benchmarks.naive:application"
# modes that only phx_protocol knows, and what drives them
OURS = {"presence": "benchmarks.presence"}
LOAD: dict[str, dict[str, Any]] = {
    "fanout": {"sockets": 1000, "count": 100},
    "paced": {"sockets": 1000, "rate": 10, "duration": 4},
    "echo": {"sockets": 100, "duration": 3},
    "join": {"cycles": 1000},
    "idle": {"sockets": 5000, "quiet": 5},
    "presence": {"cycles": 50},
}
QUICK: dict[str, dict[str, Any]] = {
    "fanout": {"count": 30},
    "paced": {"duration": 2},
    "echo": {"duration": 1},
    "join": {"cycles": 200},
    "idle": {"sockets": 300, "quiet": 2},
    "presence": {"cycles": 15},
}
# N takes so long that it gets less of the same
FEWER: dict[str, dict[str, Any]] = {
    "fanout": {"count": 5},
    "paced": {"rate": 1},
    "idle": {"sockets": 300},
}
#: what more than one process has something to say of
TWO = ("paced",)
#: times that all servers are measured in turn: what else the machine does hits them alike
PASSES = 3

Figure = dict[str, float]
Found = dict[str, Figure]


def command(name: str, port: int) -> list[str]:
    if name == "L":
        return [sys.executable, "-m", "benchmarks.limit", str(port)]
    if name == "daphne":
        return [*servers.command(name, port), "-v", "0"]  # which logs no access
    application = NAIVE if name == "N" else servers.CONFORMANCE
    plain = ["--ws-per-message-deflate", "false", "--no-access-log"]
    server = "frames" if name in ("frames", "two") else "uvicorn"
    return [*servers.command(server, port, application), *plain]


def load_of(mode: str, name: str, quick: bool) -> dict[str, Any]:
    load = {"rounds": 3 if quick else 1, **LOAD[mode]}
    load.update({} if mode in OURS else {"payload": 100, "patience": 10})
    load.update(QUICK[mode] if quick else {})
    load.update(FEWER.get(mode, {}) if name == "N" else {})
    return load


def drive(mode: str, name: str, load: dict[str, Any], redis_url: str) -> Found:
    """Fresh servers under phxload: key -> min, median and max."""
    options = [f"--{key}={value}" for key, value in load.items()]
    env = {"PHX_REDIS_URL": redis_url}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = directory / "report.json"
        for _ in range(2 if name == "two" else 1):
            port = servers.free_port()
            args, log = command(name, port), directory / f"{port}.log"
            server = stack.enter_context(servers.run(args, port, log, **env))
            options.append(f"--url={server.url}/socket/websocket?vsn=2.0.0")
            options.append(f"--server-pid={server.process.pid}")
        driver = [OURS[mode]] if mode in OURS else ["benchmarks.phxload", mode]
        subprocess.run(
            [sys.executable, "-m", *driver, *options, f"--json={report}"],
            cwd=servers.ROOT,
            env={**os.environ, **env},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        measured = json.loads(report.read_text())
    if measured["result"].pop("out_of_order", 0):
        raise SystemExit(f"{NAMES[name]} delivered out of order")
    once = {k: {"min": v, "median": v, "max": v} for k, v in measured["result"].items()}
    return {**measured["summary"], **once}


def together(passes: list[Found]) -> Found:
    """Of several passes: the median of the medians, the least and the most of all."""
    return {
        key: {
            "min": min(found[key].get("min", 0) for found in passes),
            "median": statistics.median(
                found[key].get("median", 0) for found in passes
            ),
            "max": max(found[key]["max"] for found in passes),
        }
        for key in passes[0]
    }


def wanted(mode: str, names: list[str]) -> list[str]:
    apart = {"L", "N"} if mode in OURS else set()
    return [n for n in names if n not in apart and (n != "two" or mode in TWO)]


def measure(mode: str, names: list[str], quick: bool, redis_url: str) -> Any:
    """server -> what it needed, and the load as the table tells it."""
    passes: dict[str, list[Found]] = {name: [] for name in wanted(mode, names)}
    for number in range(1 if quick else PASSES):
        for name, results in passes.items():
            print(f"{mode} {number + 1}: {NAMES[name]}", file=sys.stderr)
            load = load_of(mode, name, quick)
            results.append(drive(mode, name, load, redis_url))
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
                    NAMES[name],
                    f"{figure['median']:.2f}",
                    f"{figure['min']:.2f} … {figure['max']:.2f}",
                    ratio(figure, limit),
                    ratio(figure, figures.get("N")),
                    row.phoenix if name == "L" else "",
                    row.verdict(name, figure["median"], limit and limit["median"]),
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


def write(path: Path, text: str) -> None:
    """Put `text` between the marks of the file."""
    begin, end = "<!-- bench -->", "<!-- /bench -->"
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="less of everything")
    p.add_argument("--only", choices=ROWS, action="append", metavar="MODE")
    p.add_argument("--servers", default=",".join(NAMES), help="default: %(default)s")
    p.add_argument("--write", action="store_true", help="into the README and the docs")
    o = p.parse_args()
    o.servers = o.servers.split(",")
    if not set(o.servers) <= set(NAMES):
        p.error(f"the servers are {', '.join(NAMES)}")
    if o.write and (o.only or o.quick or o.servers != list(NAMES)):
        p.error("--write is for a whole run")
    return o


def main() -> None:
    o = parse()
    raise_fd_limit(20_000)
    rows: list[list[str]] = []
    short: list[list[str]] = []
    with tempfile.TemporaryDirectory() as directory:
        with servers.redis(Path(directory)) as redis:
            redis_url = f"redis://127.0.0.1:{redis.port}/0"
            for mode in o.only or ROWS:
                found = measure(mode, o.servers, o.quick, redis_url)
                load = load_of(mode, "frames", o.quick)
                rows += table(mode, load, found)
                if o.write:
                    short += brief(mode, load, found)
    whole = f"{markdown(HEAD, rows, 2)}\n\n{circumstances()}"
    print(whole)
    if o.write:
        write(servers.ROOT / "docs" / "performance.md", whole)
        head = ["", "phx_protocol", "Phoenix 1.8.12", "a consumer by hand"]
        text = f"{markdown(head, short, 1)}\n\n{circumstances()}"
        write(servers.ROOT / "README.md", text)


if __name__ == "__main__":
    main()
