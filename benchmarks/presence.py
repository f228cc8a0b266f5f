"""What a join of a topic with many presences costs the server, and what listing them does.

python -m benchmarks.presence --url ws://... --server-pid PID --json FILE [--presences 100,1000,5000]

The presences are this process's own, on the same Redis (PHX_REDIS_URL), so that the diff of a
join goes to the few sockets of the load and its fan-out costs next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

import django  # noqa: E402

django.setup()

from websockets.asyncio.client import ClientConnection, connect  # noqa: E402

from benchmarks.phxload import cpu_seconds, summarize  # noqa: E402
from tests.conformance.channels import Present  # noqa: E402


async def cycle(ws: ClientConnection, topic: str) -> None:
    """Join, take the state and one's own diff, leave."""
    await ws.send(json.dumps(["1", "1", topic, "phx_join", {"device": "x"}]))
    await until(ws, '"presence_diff"')
    await ws.send(json.dumps(["1", "2", topic, "phx_leave", {}]))
    await until(ws, '"phx_close"')


async def ask(ws: ClientConnection, topic: str) -> None:
    await ws.send(json.dumps(["1", "3", topic, "list", {}]))
    await until(ws, '"phx_reply"')


async def until(ws: ClientConnection, event: str) -> None:
    while event not in str(await ws.recv())[:200]:
        pass


async def measure(
    pid: int, what: Any, ws: ClientConnection, topic: str, times: int
) -> float:
    """CPU microseconds of the server for each."""
    await what(ws, topic)
    before = cpu_seconds(pid)
    for _ in range(times):
        await what(ws, topic)
    return (cpu_seconds(pid) - before) / times * 1e6


async def run(o: argparse.Namespace) -> dict[str, Any]:
    rounds: list[dict[str, float]] = [{} for _ in range(o.rounds)]
    started = time.monotonic()
    async with (
        connect(o.url, max_size=None, proxy=None) as ws,
        connect(o.url, max_size=None, proxy=None) as resident,
    ):
        for count in o.presences:
            topic = f"presence:{count}"
            for i in range(count):
                await Present.track(topic, f"user{i}", {"device": "x", "online_at": 1})
            # somebody is there all the time, as in any room
            await resident.send(json.dumps(["1", "1", topic, "phx_join", {}]))
            await until(resident, '"presence_diff"')
            for figures in rounds:
                joined = await measure(o.server_pid, cycle, ws, topic, o.cycles)
                figures[f"join_{count}"] = joined
            await ws.send(json.dumps(["1", "1", topic, "phx_join", {}]))
            await until(ws, '"presence_diff"')
            for figures in rounds:
                listed = await measure(o.server_pid, ask, ws, topic, o.cycles)
                figures[f"list_{count}"] = listed
            await Present.untrack(topic)
    return {
        "summary": {**summarize(rounds), "lost": {"max": 0.0}},
        "result": {"seconds": time.monotonic() - started},
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--url", required=True)
    p.add_argument("--server-pid", type=int, required=True)
    p.add_argument("--json", type=Path, required=True)
    p.add_argument("--presences", default="100,1000,5000")
    p.add_argument("--cycles", type=int, default=50)
    p.add_argument("--rounds", type=int, default=3)
    o = p.parse_args()
    o.presences = [int(count) for count in o.presences.split(",")]
    o.json.write_text(json.dumps(asyncio.run(run(o))))


if __name__ == "__main__":
    main()
