"""What a row of the outbox costs the request and the relay, and how long it takes to a client.

python -m benchmarks.outbox --url ws://... --json FILE [--rows N] [--commits N] [--backlog N]

PostgreSQL is started for it, and a relay (phx_outbox) on the Redis of PHX_REDIS_URL. `--backlog` measures
instead how long the relay needs for so many rows that have waited for Redis.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from websockets.sync.client import ClientConnection, connect

from benchmarks.phxload import cpu_seconds, summarize
from tests.support import databases, servers

SETTINGS = "tests.integration.outbox_settings"
#: topics of the rows: with a subscriber, without, and with a history
HEARD, PLAIN, KEPT = "bench:1", "bench:other", "kept:1"
PAYLOAD = {"text": "x" * 100}
#: so many rows are written in one transaction when only the relay is measured
AT_ONCE = 1000


@contextlib.contextmanager
def relay() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "django", "phx_outbox"]
    process = servers.start(command, cwd=servers.ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_until(has_relay)
        yield process
    finally:
        process.terminate()
        process.wait()


def has_relay() -> bool:
    from phx_protocol.outbox.models import Partition

    return Partition.objects.exclude(holder="").exists()


def is_empty() -> bool:
    from phx_protocol.outbox.models import Message

    return not Message.objects.exists()


def wait_until(is_done: Any, pause: float = 0.02) -> None:
    while not is_done():
        time.sleep(pause)


def write(topic: str, rows: int) -> None:
    from phx_protocol.api.broadcasts import message_of
    from phx_protocol.outbox.api import write

    for begin in range(0, rows, AT_ONCE):
        some = range(begin, min(begin + AT_ONCE, rows))
        write([message_of(topic, "said", {**PAYLOAD, "n": n}) for n in some], None)


def of_the_request(rows: int) -> float:
    """CPU microseconds that an outbox adds to a transaction that changes one row."""
    from django.db import transaction

    from phx_protocol import outbox
    from phx_protocol.outbox.models import Relay

    def change(tells: bool) -> float:
        began = time.process_time()
        for _ in range(rows):
            with transaction.atomic():
                Relay.objects.filter(pk="nobody").update(pid=1)
                if tells:
                    outbox.broadcast(PLAIN, "said", PAYLOAD)
        return (time.process_time() - began) / rows * 1e6

    change(True)  # warm
    return change(True) - change(False)


def of_the_relay(process: subprocess.Popen[bytes], topic: str, rows: int) -> Any:
    """CPU microseconds of the relay for a row, and rows a second."""
    process.send_signal(signal.SIGSTOP)  # it finds all of them when it goes on
    write(topic, rows)
    before, began = cpu_seconds(process.pid), time.monotonic()
    process.send_signal(signal.SIGCONT)
    wait_until(is_empty)
    seconds = time.monotonic() - began
    return (cpu_seconds(process.pid) - before) / rows * 1e6, rows / seconds


def of_the_way(client: ClientConnection, commits: int) -> list[float]:
    """Milliseconds from a commit to the client."""
    from phx_protocol import outbox

    found = []
    for _ in range(commits):
        outbox.broadcast(HEARD, "said", PAYLOAD)
        began = time.monotonic()
        while "said" not in str(client.recv(timeout=30)):
            pass
        found.append((time.monotonic() - began) * 1000)
        time.sleep(0.01)
    return found


def measure(o: argparse.Namespace) -> dict[str, float]:
    figures = {"request": of_the_request(o.rows)}
    with relay() as process, connect(o.url, proxy=None) as client:
        wait_until(is_empty)
        plain, rate = of_the_relay(process, PLAIN, o.rows * 5)
        figures |= {"relay": plain, "rows_per_s": rate}
        figures["relay_kept"], _ = of_the_relay(process, KEPT, o.rows * 5)
        client.send(json.dumps(["1", "1", HEARD, "phx_join", {}]))
        client.recv()
        told = sorted(of_the_way(client, o.commits))
        figures["latency_ms"] = statistics.median(told)
        figures["latency_p99_ms"] = told[int(len(told) * 0.99)]
        with mock.patch("phx_protocol.outbox.hints.tell"):
            found = of_the_way(client, max(5, o.commits // 10))
        figures["untold_ms"] = statistics.median(found)
    return figures


def catch_up(o: argparse.Namespace) -> dict[str, float]:
    """Write the backlog, then start the relay: Redis is back."""
    from phx_protocol.outbox.models import Message

    began = time.monotonic()
    for begin in range(0, o.backlog, AT_ONCE):
        write(f"{'kept' if begin // AT_ONCE % 2 else 'bench'}:{begin % 97}", AT_ONCE)
    print(f"{o.backlog} rows written in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    with relay() as process:
        wait_until(lambda: not Message.objects.exists(), 1)
        used = cpu_seconds(process.pid)
    seconds = time.monotonic() - began
    print(f"caught up in {seconds:.0f} s, {used:.0f} s of CPU of the relay", flush=True)
    return {"seconds": seconds, "rows_per_s": o.backlog / seconds}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    add = p.add_argument
    add("--url", required=True)
    add("--server-pid", type=int)
    add("--json", type=Path)
    add("--rows", type=int, default=2000)
    add("--commits", type=int, default=200)
    add("--rounds", type=int, default=1)
    add("--backlog", type=int, default=0)
    o = p.parse_args()
    with servers.postgres() as postgres:
        chosen = databases.settings_of("postgresql", str(postgres.port))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "PHX_TEST_DATABASE": json.dumps(chosen),
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", "phx_outbox", verbosity=0)
        run = catch_up if o.backlog else measure
        rounds = [run(o) for _ in range(o.rounds)]
    report = {"summary": {**summarize(rounds), "lost": {"max": 0.0}}, "result": {}}
    text = json.dumps(report, indent=1)
    o.json.write_text(text) if o.json else print(text)


if __name__ == "__main__":
    main()
