"""What a message costs here, next to the limit and to what one would write by hand.

python -m benchmarks.bench [--quick] [--only MODE] [--servers L,N,uvicorn,daphne]

Prints one markdown table; benchmarks/README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.phxload import raise_fd_limit
from tests import servers

NAIVE = "benchmarks.naive:application"
NAMES = {
    "L": "L: bare uvloop",
    "N": "N: naive, uvicorn",
    "frames": "phx_protocol, uvicorn --ws",
    "uvicorn": "phx_protocol, uvicorn",
    "daphne": "phx_protocol, Daphne",
}
# mode -> the rows it gives: what is measured -> its key in phxload's report
ROWS = {
    "fanout": {"blast to {sockets:,}: CPU µs per delivery": "cpu_us_per_delivery"},
    "paced": {"paced to {sockets:,}: CPU µs per delivery": "cpu_us_per_delivery"},
    "echo": {"echo on {sockets:,}: CPU µs per reply": "cpu_us_per_reply"},
    "join": {"connect, join, leave, close: CPU µs each": "cpu_us_per_join"},
    "idle": {
        "idle {sockets:,}: CPU µs per heartbeat": "cpu_us_per_heartbeat",
        "idle {sockets:,}: CPU µs per socket and second": "quiet_cpu_us_per_socket_per_s",
        "idle {sockets:,}: KiB per socket": "rss_kib_per_socket",
    },
    "presence": {
        f"{what} {count:,} presences: CPU µs": f"{key}_{count}"
        for key, what in (
            ("join", "join and leave of a topic with"),
            ("list", "list of"),
        )
        for count in (100, 1000, 5000)
    },
}
# modes that only phx_protocol knows, and what drives them
OURS = {"presence": "benchmarks.presence"}
LOAD: dict[str, dict[str, Any]] = {
    "fanout": {"sockets": 1000, "count": 100},
    "paced": {"sockets": 1000, "rate": 5, "duration": 4},
    "echo": {"sockets": 100, "duration": 3},
    "join": {"cycles": 1000},
    "idle": {"sockets": 1000, "quiet": 5},
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
FEWER: dict[str, dict[str, Any]] = {"fanout": {"count": 5}, "paced": {"rate": 1}}

Figure = dict[str, float]


def command(name: str, port: int) -> list[str]:
    if name == "L":
        return [sys.executable, "-m", "benchmarks.limit", str(port)]
    if name == "daphne":
        return [*servers.command(name, port), "-v", "0"]  # which logs no access
    application = NAIVE if name == "N" else servers.CONFORMANCE
    plain = ["--ws-per-message-deflate", "false", "--no-access-log"]
    server = "frames" if name == "frames" else "uvicorn"
    return [*servers.command(server, port, application), *plain]


def load_of(mode: str, name: str, quick: bool) -> dict[str, Any]:
    load = {"rounds": 3, **LOAD[mode]}
    load.update({} if mode in OURS else {"payload": 100, "patience": 10})
    load.update(QUICK[mode] if quick else {})
    load.update(FEWER.get(mode, {}) if name == "N" else {})
    return load


def drive(mode: str, name: str, load: dict[str, Any], redis_url: str) -> dict[str, Any]:
    """A fresh server under phxload: key -> min, median and max."""
    port = servers.free_port()
    options = [f"--{key}={value}" for key, value in load.items()]
    with tempfile.TemporaryDirectory() as directory:
        report, log = Path(directory, "report.json"), Path(directory, "server.log")
        env = {"PHX_REDIS_URL": redis_url}
        with servers.run(command(name, port), port, log, **env) as server:
            url = f"{server.url}/socket/websocket?vsn=2.0.0"
            options += ["--url", url, f"--server-pid={server.process.pid}"]
            load_of_mode = (
                [OURS[mode]] if mode in OURS else ["benchmarks.phxload", mode]
            )
            subprocess.run(
                [sys.executable, "-m", *load_of_mode, *options, f"--json={report}"],
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


def ratio(figure: Figure, baseline: Figure | None) -> str:
    if baseline is None or not baseline["median"]:
        return ""
    return f"{figure['median'] / baseline['median']:.3g}"


def rows(mode: str, load: dict[str, Any], found: dict[str, Any]) -> list[list[str]]:
    """The table's rows of one mode; `found`: server -> what drive() returned."""
    made = []
    for title, key in ROWS[mode].items():
        figures = {name: summary[key] for name, summary in found.items()}
        for name, figure in figures.items():
            lost, p99 = found[name]["lost"], found[name].get("p99_ms")
            row = [
                title.format_map(load),
                NAMES[name],
                f"{figure['median']:.2f}",
                f"{figure['min']:.2f} … {figure['max']:.2f}",
                ratio(figure, figures.get("L")),
                ratio(figure, figures.get("N")),
                f"{lost['max']:.0f}",
                f"{p99['median']:.1f}" if p99 else "",
            ]
            made.append(row)
    return made


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="less of everything")
    p.add_argument("--only", choices=ROWS, action="append", metavar="MODE")
    p.add_argument("--servers", default=",".join(NAMES), help="default: %(default)s")
    o = p.parse_args()
    o.servers = o.servers.split(",")
    if not set(o.servers) <= set(NAMES):
        p.error(f"the servers are {', '.join(NAMES)}")
    return o


def main() -> None:
    o = parse()
    raise_fd_limit(10_000)
    head = ["load", "server", "median", "min … max", "÷ L", "÷ N", "lost", "p99 ms"]
    table = [head, ["---"] * 2 + ["---:"] * 6]
    with tempfile.TemporaryDirectory() as directory:
        with servers.redis(Path(directory)) as redis:
            redis_url = f"redis://127.0.0.1:{redis.port}/0"
            for mode in o.only or ROWS:
                found = {}
                for name in o.servers:
                    if mode in OURS and name in ("L", "N"):
                        continue
                    print(f"{mode}: {NAMES[name]}", file=sys.stderr)
                    load = load_of(mode, name, o.quick)
                    found[name] = drive(mode, name, load, redis_url)
                table += rows(mode, load, found)
    for row in table:
        print(f"| {' | '.join(row)} |")
    print(f"\n{os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
