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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import servers
from tests.support.redis_cluster import redis_cluster

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
    #: what its load has besides
    load: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: its Redis: one server, "three" of them, or a "cluster" of three primaries and three replicas
    redis: str = "one"

    def command(self, port: int) -> list[str]:
        if self.server is None:
            return [sys.executable, "-m", "benchmarks.limit", str(port)]
        command = servers.command(self.server, port, self.application)
        # neither logs accesses
        return [*command, *(["-v", "0"] if self.server == "daphne" else PLAIN)]


MEMORY = {"PHX_REDIS_URL": ""}
PUBSUB = {"PHX_LAYER": "pubsub"}
#: in the order of the table
CONTENDERS = {
    "L": Contender("L: bare uvloop", None),
    "N": Contender("N: naive, uvicorn", "uvicorn", NAIVE),
    "memory": Contender("phx_protocol, uvicorn --ws, in memory", "frames", env=MEMORY),
    "tuned": Contender(
        "phx_protocol, uvicorn --ws, in memory, GC_THRESHOLD = 50,000",
        "frames",
        env={**MEMORY, "PHX_GC_THRESHOLD": "50000"},
    ),
    "frames": Contender("phx_protocol, uvicorn --ws", "frames"),
    "two": Contender("phx_protocol, 2 × uvicorn --ws", "frames", processes=2),
    "pubsub": Contender(
        "phx_protocol, uvicorn --ws, RedisPubSubChannelLayer", "frames", env=PUBSUB
    ),
    "pubsub2": Contender(
        "phx_protocol, 2 × uvicorn --ws, RedisPubSubChannelLayer",
        "frames",
        processes=2,
        env=PUBSUB,
    ),
    "core": Contender(
        "phx_protocol, 2 × uvicorn --ws, RedisChannelLayer",
        "frames",
        processes=2,
        env={"PHX_LAYER": "core"},
    ),
    "three": Contender(
        "phx_protocol, 2 × uvicorn --ws, 3 × Redis",
        "frames",
        processes=2,
        redis="three",
    ),
    "cluster": Contender(
        "phx_protocol, 2 × uvicorn --ws, Redis Cluster of 3",
        "frames",
        processes=2,
        redis="cluster",
    ),
    "four": Contender("phx_protocol, 4 × uvicorn --ws", "frames", processes=4),
    "together": Contender(
        "phx_protocol, 4 × uvicorn --ws, a room in one process",
        "frames",
        processes=4,
        load={"together": True},
    ),
    "uvicorn": Contender("phx_protocol, uvicorn", "uvicorn"),
    "daphne": Contender("phx_protocol, Daphne", "daphne"),
}

Figure = dict[str, float]
Found = dict[str, Figure]


def drive(
    driver: Sequence[str],
    name: str,
    load: Mapping[str, Any],
    redis: servers.Server,
    redis_ms: float = 0,
) -> Found:
    """Fresh servers under a load: key -> min, median and max.

    `driver` is a module, and the name of its mode if it has several. ``beside_us_per_...`` is what
    Redis needed, which is `redis_ms` away.
    """
    contender = CONTENDERS[name]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, pids = stack.enter_context(
            several(contender.redis, directory)
            if contender.redis != "one"
            else away(redis, redis_ms, directory)
        )
        env = {"PHX_REDIS_URL": url, **contender.env}
        running = [
            stack.enter_context(serve(contender, directory, env))
            for _ in range(contender.processes)
        ]
        options = {**load, **contender.load, "json": str(directory / "report.json")}
        beside = pids if len(driver) > 1 else []
        measured = report(driver, options, running, env, beside)
    if measured["result"].pop("out_of_order", 0):
        raise SystemExit(f"{contender.title} delivered out of order")
    once = {k: {"min": v, "median": v, "max": v} for k, v in measured["result"].items()}
    return {**measured["summary"], **once}


#: what a site has as its Redis: the setting, and the processes
Redis = tuple[str, list[int]]


@contextlib.contextmanager
def several(what: str, directory: Path) -> Iterator[Redis]:
    """Yield three servers, or a cluster."""
    with contextlib.ExitStack() as stack:
        if what == "cluster":
            cluster = stack.enter_context(redis_cluster(directory))
            pids = [server.process.pid for server in cluster.servers.values()]
            yield cluster.url, pids
            return
        running = [stack.enter_context(servers.redis(directory)) for _ in range(3)]
        urls = [f"redis://{server.address}/0" for server in running]
        yield " ".join(urls), [server.process.pid for server in running]


@contextlib.contextmanager
def away(redis: servers.Server, milliseconds: float, logs: Path) -> Iterator[Redis]:
    """Yield a Redis that is a round trip of so many milliseconds away."""
    if not milliseconds:
        yield f"redis://{redis.address}/0", [redis.process.pid]
        return
    port = servers.free_port()
    far = ["benchmarks.distance", str(port), str(redis.port), str(milliseconds)]
    with servers.run([sys.executable, "-m", *far], port, logs / f"{port}.log"):
        yield f"redis://127.0.0.1:{port}/0", [redis.process.pid]


def serve(
    contender: Contender, logs: Path, env: Mapping[str, str]
) -> contextlib.AbstractContextManager[servers.Server]:
    port = servers.free_port()
    return servers.run(contender.command(port), port, logs / f"{port}.log", **env)


def report(
    driver: Sequence[str],
    options: Mapping[str, Any],
    running: list[servers.Server],
    env: Mapping[str, str],
    beside: Sequence[int],
) -> dict[str, Any]:
    """Run the load against the servers, and return what it writes."""
    arguments = [
        f"--{key}" if value is True else f"--{key}={value}"
        for key, value in options.items()
    ]
    arguments += [f"--beside-pid={pid}" for pid in beside]
    for server in running:
        arguments.append(f"--url={server.url}/socket/websocket?vsn=2.0.0")
        arguments.append(f"--server-pid={server.process.pid}")
    subprocess.run(
        [sys.executable, "-m", *driver, *arguments],
        cwd=servers.ROOT,
        env={**os.environ, **env},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found: dict[str, Any] = json.loads(Path(options["json"]).read_text())
    return found


def together(passes: list[Found]) -> Found:
    """Of several passes: the median of the medians, the least and the most of all.

    A figure may be missing in a pass, if a rate was too much for it.
    """
    keys = dict.fromkeys(key for found in passes for key in found)
    return {
        key: _over([found[key] for found in passes if key in found]) for key in keys
    }


def _over(figures: list[Figure]) -> Figure:
    return {
        "min": min(figure.get("min", 0) for figure in figures),
        "median": statistics.median(figure.get("median", 0) for figure in figures),
        "max": max(figure["max"] for figure in figures),
    }
