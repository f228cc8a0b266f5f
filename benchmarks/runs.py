"""One run: fresh servers, a load, and what it cost them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import servers

NAIVE = "benchmarks.naive:application"
PLAIN = ["--ws-per-message-deflate", "false", "--no-access-log"]


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is measured: `server` is a name of tests.support.servers, None for the bare limit."""

    title: str
    server: str | None
    application: str = servers.CONFORMANCE
    processes: int = 1
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def command(self, port: int) -> list[str]:
        if self.server is None:
            return [sys.executable, "-m", "benchmarks.limit", str(port)]
        command = servers.command(self.server, port, self.application)
        # neither logs accesses
        return [*command, *(["-v", "0"] if self.server == "daphne" else PLAIN)]


#: in the order of the table
CONTENDERS = {
    "L": Contender("L: bare uvloop", None),
    "N": Contender("N: naive, uvicorn", "uvicorn", NAIVE),
    "frames": Contender("phx_protocol, uvicorn --ws", "frames"),
    "two": Contender("phx_protocol, 2 × uvicorn --ws", "frames", processes=2),
    "core": Contender(
        "phx_protocol, 2 × uvicorn --ws, RedisChannelLayer",
        "frames",
        processes=2,
        env={"PHX_LAYER": "core"},
    ),
    "uvicorn": Contender("phx_protocol, uvicorn", "uvicorn"),
    "daphne": Contender("phx_protocol, Daphne", "daphne"),
}
#: modes that only phx_protocol knows, and what drives them
OURS = {"presence": "benchmarks.presence"}

Figure = dict[str, float]
Found = dict[str, Figure]


def drive(
    mode: str, name: str, load: Mapping[str, Any], redis: servers.Server
) -> Found:
    """Fresh servers under phxload: key -> min, median and max.

    ``beside_us_per_...`` is what Redis needed.
    """
    contender = CONTENDERS[name]
    options = [f"--{key}={value}" for key, value in load.items()]
    env = {"PHX_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", **contender.env}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = directory / "report.json"
        for _ in range(contender.processes):
            port = servers.free_port()
            args, log = contender.command(port), directory / f"{port}.log"
            server = stack.enter_context(servers.run(args, port, log, **env))
            options.append(f"--url={server.url}/socket/websocket?vsn=2.0.0")
            options.append(f"--server-pid={server.process.pid}")
        if mode in OURS:
            driver = [OURS[mode]]
        else:
            driver = ["benchmarks.phxload", mode, f"--beside-pid={redis.process.pid}"]
        subprocess.run(
            [sys.executable, "-m", *driver, *options, f"--json={report}"],
            cwd=servers.ROOT,
            env={**os.environ, **env},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        measured = json.loads(report.read_text())
    if measured["result"].pop("out_of_order", 0):
        raise SystemExit(f"{contender.title} delivered out of order")
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
