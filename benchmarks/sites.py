"""sites: eight processes with 4,000 clients, and what a deploy and a lost server do to them.

python -m benchmarks.sites [--quick] [--only quiet,deploy,...]

  quiet   rooms of 5 and of 50, on one Redis, on three, on a cluster of three, and with each room in one
          process: CPU of all processes and of Redis for each message, and the latency; also with a Redis
          that is a millisecond away.
  deploy  the eight processes are restarted one after the other.
  shard   one of three servers is killed, and is back after three seconds, empty.
  primary a primary of the cluster is killed; a replica takes over (cluster-node-timeout 2000).

In the last three, clients in rooms of five say something at an even rate; one that is sent away comes back at
once to another process. Prints tables for docs/capacity.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import runs
from benchmarks.pace import evenly
from benchmarks.phxload import Load, PhxError, Sock, raise_fd_limit
from benchmarks.results import circumstances
from benchmarks.runs import CONTENDERS, Contender
from tests.support import servers
from tests.support.redis_cluster import RedisCluster, redis_cluster

PROCESSES, CLIENTS = 8, 4000
#: seconds until a killed server is back
AWAY = 3.0
#: size of the rooms -> messages a second
RATES = {5: 400, 50: 80}
SITES = {
    "one": "one Redis",
    "three": "three Redis",
    "cluster": "a cluster of three",
    "together": "one Redis, a room in one process",
}


def contender(name: str) -> Contender:
    redis = name if name in ("three", "cluster") else "one"
    load = {"together": True} if name == "together" else {}
    return Contender(SITES[name], "frames", processes=PROCESSES, load=load, redis=redis)


# ------------------------------------------------------------------------------ quiet


def quiet(clients: int, seconds: int, rounds: int) -> Iterator[str]:
    yield "| on | Redis is away | rooms of | messages/s | processes, µs a message | Redis, µs | p50, ms | p99, ms |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    CONTENDERS.update({f"eight {name}": contender(name) for name in SITES})
    with tempfile.TemporaryDirectory() as folder, servers.redis(Path(folder)) as redis:
        for name, away, size in itertools.product(SITES, (0, 1), RATES):
            if away and name in ("three", "cluster"):
                continue  # the proxy stands before one server
            rate = RATES[size]
            load = {"rooms": clients // size, "size": size, "rates": rate}
            load |= {"duration": seconds, "rounds": rounds}
            driver = ["benchmarks.rooms", "rooms"]
            found = runs.drive(driver, f"eight {name}", load, redis, away)
            figure = {key: found[f"{key}_{rate}"]["median"] for key in KEYS}
            if found[f"lost_{rate}"]["max"]:
                raise SystemExit(f"{SITES[name]} lost messages")
            cpu, beside, p50, p99 = figure.values()
            distance = f"{away} ms" if away else "–"
            yield (
                f"| {SITES[name]} | {distance} | {size} | {rate} | {cpu:.0f} | {beside:.0f} "
                f"| {p50:.1f} | {p99:.1f} |"
            )


KEYS = ("cpu_us_per_message", "beside_us_per_message", "p50_ms", "p99_ms")


# -------------------------------------------------------------------------- disturbed


class Guest:
    """A client that comes back, as phoenix.js does, when it is sent away."""

    def __init__(self, crowd: Crowd, room: str) -> None:
        self.room = room
        self.sock: Sock | None = None
        self._crowd = crowd

    async def stay(self) -> None:
        while True:
            lost = time.monotonic()
            for wait in itertools.chain((0.01, 0.05, 0.1, 0.15), itertools.repeat(0.2)):
                with contextlib.suppress(OSError, PhxError, TimeoutError):
                    async with self._crowd.gate:
                        await self._enter()
                    break
                await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            self._crowd.entered(self, time.monotonic() - lost)
            assert self.sock is not None
            await self.sock.closed
            self._crowd.left(self)

    async def _enter(self) -> None:
        url = random.choice(self._crowd.urls)
        sock = await self._crowd.load.connect(url=url)
        await sock.join(self.room)
        sock.hook = self._crowd.hear
        self.sock = sock


class Crowd:
    """Guests in rooms of five: who is there, what is said, and who does not hear it."""

    def __init__(self, urls: list[str], clients: int) -> None:
        self.urls = urls
        self.load = Load(argparse.Namespace(url=urls, payload=100))
        self.gate = asyncio.Semaphore(40)
        self.guests = [Guest(self, f"room:r{n // 5}") for n in range(clients)]
        #: those that are in each room
        self.there: dict[str, set[Guest]] = {guest.room: set() for guest in self.guests}
        self.away: list[float] = []
        # message -> when it was said, how many should hear it, how many did
        self.said: list[list[float]] = []

    def entered(self, guest: Guest, seconds: float) -> None:
        self.there[guest.room].add(guest)
        self.away.append(seconds)

    def left(self, guest: Guest) -> None:
        self.there[guest.room].discard(guest)

    def hear(self, sock: Sock, data: bytes) -> bool:
        i = data.find(b"#")
        if i >= 0:
            self.said[int(data[i + 1 : i + 9])][2] += 1
        return True

    def say(self, i: int) -> None:
        there = self.there[random.choice(self.guests).room]
        speaker = next(iter(there), None)
        if speaker is None or speaker.sock is None or speaker.sock.closed.done():
            return
        number = len(self.said)
        self.said.append([time.monotonic(), len(there), 0])
        speaker.sock.push(
            speaker.room, "shout_ack", {"t": f"#{number:08d}", "p": "x" * 80}
        )

    async def live(self, rate: float, event: Callable[[], Awaitable[None]]) -> None:
        """Let them speak until the event is over, and two seconds more."""
        staying = [asyncio.create_task(guest.stay()) for guest in self.guests]
        async with asyncio.timeout(120):
            while sum(map(len, self.there.values())) < len(self.guests):
                await asyncio.sleep(0.1)
        speaking = asyncio.create_task(self._speak(rate))
        await asyncio.sleep(2)
        self.away.clear()
        await event()
        await asyncio.sleep(2)
        speaking.cancel()
        await asyncio.sleep(2)
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)

    async def _speak(self, rate: float) -> None:
        while True:
            await evenly(rate, int(rate), self.say)

    @property
    def unheard(self) -> list[float]:
        """When that was said which somebody who was there did not hear."""
        return [at for at, wanted, heard in self.said if heard < wanted]


@contextlib.contextmanager
def processes(url: str, folder: Path) -> Iterator[list[servers.Server]]:
    with contextlib.ExitStack() as stack:
        env = {"PHX_REDIS_URL": url}
        yield [
            stack.enter_context(runs.serve(contender("one"), folder, env))
            for _ in range(PROCESSES)
        ]


def addresses(running: list[servers.Server]) -> list[str]:
    return [f"{server.url}/socket/websocket?vsn=2.0.0" for server in running]


def row(what: str, crowd: Crowd, *more: str) -> str:
    unheard = crowd.unheard
    lasted = f"{unheard[-1] - unheard[0]:.1f} s" if unheard else "–"
    share = len(unheard) / len(crowd.said)
    away = sorted(crowd.away)
    back = f"{statistics.median(away):.2f} s, {away[-1]:.2f} s" if away else "nobody"
    note = "; ".join(more)
    return f"| {what} | {len(away):,} | {back} | {share:.2%} | {lasted} | {note} |"


HEAD = (
    "| what happens | clients sent away | back after (median, longest) | messages that one client or more "
    "missed | from the first to the last of them | |",
    "| --- | ---: | ---: | ---: | ---: | --- |",
)


def deploy(clients: int, folder: Path) -> str:
    with servers.redis(folder) as redis, contextlib.ExitStack() as stack:
        env = {"PHX_REDIS_URL": f"redis://{redis.address}/0"}
        running = [
            stack.enter_context(runs.serve(contender("one"), folder, env))
            for _ in range(PROCESSES)
        ]

        async def main() -> str:
            crowd, began = Crowd(addresses(running), clients), 0.0

            async def event() -> None:
                nonlocal began
                began = time.monotonic()
                for place, old in enumerate(running):
                    started = runs.serve(contender("one"), folder, env)
                    new = await asyncio.to_thread(stack.enter_context, started)
                    crowd.urls[place] = addresses([new])[0]
                    old.process.send_signal(signal.SIGTERM)
                    await asyncio.to_thread(old.process.wait, 60)
                began = time.monotonic() - began

            await crowd.live(RATES[5], event)
            return row("a rolling deploy", crowd, f"it took {began:.0f} s")

        return asyncio.run(main())


def shard(clients: int, folder: Path) -> str:
    with contextlib.ExitStack() as stack:
        ports = [servers.free_port() for _ in range(3)]
        redis = [stack.enter_context(servers.redis(folder, port)) for port in ports]
        url = " ".join(f"redis://{server.address}/0" for server in redis)
        running = stack.enter_context(processes(url, folder))

        async def main() -> str:
            crowd, back = Crowd(addresses(running), clients), 0.0

            async def event() -> None:
                nonlocal back
                redis[1].process.kill()
                await asyncio.sleep(AWAY)
                started = servers.redis(folder, ports[1])
                await asyncio.to_thread(stack.enter_context, started)
                back = time.monotonic()
                await asyncio.sleep(4)

            await crowd.live(RATES[5], event)
            late = max(0.0, max(crowd.unheard, default=back) - back)
            note = f"the last {late:.1f} s after it was back"
            return row(f"one of three servers is away for {AWAY:g} s", crowd, note)

        return asyncio.run(main())


def primary(clients: int, folder: Path) -> str:
    with redis_cluster(folder) as cluster:
        with processes(cluster.url, folder) as running:
            return asyncio.run(_primary(clients, cluster, running))


async def _primary(
    clients: int, cluster: RedisCluster, running: list[servers.Server]
) -> str:
    crowd, known = Crowd(addresses(running), clients), 0.0

    async def event() -> None:
        nonlocal known
        port = next(iter(cluster.primaries()))
        await asyncio.to_thread(cluster.kill, port)

        def has_taken_over() -> bool:
            return port not in cluster.primaries() and len(cluster.primaries()) == 3

        await asyncio.to_thread(cluster.until, has_taken_over)
        known = time.monotonic()
        await asyncio.sleep(4)

    await crowd.live(RATES[5], event)
    late = max(0.0, max(crowd.unheard, default=known) - known)
    note = f"the last {late:.1f} s after the replica had taken over"
    return row("a primary of the cluster is killed", crowd, note)


DISTURBED: dict[str, Callable[[int, Path], str]] = {
    "deploy": deploy,
    "shard": shard,
    "primary": primary,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer clients")
    parser.add_argument("--only", help="some of quiet,deploy,shard,primary")
    options: Any = parser.parse_args()
    chosen = (options.only or "quiet,deploy,shard,primary").split(",")
    clients = CLIENTS // 4 if options.quick else CLIENTS
    raise_fd_limit(3 * CLIENTS)
    if "quiet" in chosen:
        for line in quiet(clients, *((4, 1) if options.quick else (8, 3))):
            print(line, flush=True)
    if some := [name for name in DISTURBED if name in chosen]:
        print(*HEAD, sep="\n", flush=True)
        for name in some:
            with tempfile.TemporaryDirectory() as folder:
                print(DISTURBED[name](clients, Path(folder)), flush=True)
    print(circumstances(options.quick))


if __name__ == "__main__":
    main()
