"""Honest clients beside a hostile one: what they notice, and what it costs the server.

``python -m tests.hostile.measure SERVER ATTACK...`` prints it for attacks by (part of) their names, and
``python -m tests.hostile.measure --page`` the table in `docs/limits.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import servers
from tests.support.ws_client import Client

SERVERS = ["frames", "daphne"]
#: for each limit of `docs/limits.md` that a client can come near: the attack that costs most
WORST = {
    "connections of one process": "many connect parameters",
    "channels of one socket": "joins of too many topics",
    "joins and events of one socket": "tiny echoes",
    "joins and events of one socket on one channel class": "joins of the same topic",
    "new tokens of one client": "ever new tokens on 100 channels",
    "one frame": "nested lists as an echo",
    "lists and objects in one frame": "objects of a model",
    "digits of a number": "long numbers as an echo",
    "time that the large payloads of one client may take of the loop": "nested lists of a model",
    "time that the large frames of all new clients may take of the loop": "a few nested lists, and gone",
    "bytes of large frames of new clients that wait": "a few nested lists of busy channels, and gone",
    "topic": "joins and leaves in emoji",
    "event": "long events",
    "ref and join_ref": "long refs",
    "connect parameters": "many connect parameters",
    "the query string, with its escapes": "many connect parameters",
    "what is kept of a topic": "nested lists kept in a history",
    "what is kept of all topics, where the state is in memory": "a hundred histories that are full",
    "what one join replays": "a history that is claimed by many joins",
    "frames that wait for their channels": "tiny events of a busy channel",
    "bytes of frames that wait or are handled": "nested lists of a busy channel",
    "payloads of one client that are decoded at once": "nested lists of 100 busy channels",
    "payloads of all clients that are decoded at once": "nested lists of a plain def",
    "broadcasts that wait for the channels of one client": "nested lists intercepted",
    "what waits for one client": "echoes that nobody reads",
    "messages in one long-poll POST": "a body of heartbeats",
    "bytes of one long-poll POST": "a body of a large echo",
    "time for the body of one": "bodies that come a byte a second",
    "long-poll sessions that were never polled": "ever new sessions",
    "messages in one answer to a poll": "answers that nobody reads",
    "time for taking an answer": "answers that nobody reads",
    "one broadcast (topic, event and payload)": "nested lists as a broadcast",
    "errors that the answer to one payload lists": "numbers of a model",
    "a client's text in one line of our log, and its payload or parameters there": "nested lists as a join",
}
APPLICATION = "tests.hostile.app:application"
HONEST = 20
#: seconds between two echoes of an honest client, and of measuring
PACE = 0.05
CALM = 0.5
#: seconds of measuring if its slowest hundredth is what others are compared with
LONG_CALM = 5
#: seconds in which something of an attack must be on its way
TIMEOUT = 30
#: seconds in which an attack rises, and takes the loop on credit
RISE = 1


class Bears(NamedTuple):
    """MiB, and milliseconds of the loop, since it was asked last."""

    memory: float
    most_memory: float
    held: float
    processor: float


def bears(server: servers.Server) -> Bears:
    with urllib.request.urlopen(f"http://{server.address}/bears", timeout=60) as answer:
        return Bears(**json.load(answer))


def _wait_for_its_beginning(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], TIMEOUT)
    assert readable, f"{process.args!r} does not get anything through"


@contextlib.contextmanager
def attacked(
    server: servers.Server, *names: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One hostile connection for each of `names`."""
    command = [sys.executable, "-m", "tests.hostile.attacks", str(server.port)]
    processes = [
        servers.start([*command, name], cwd=servers.ROOT, stdout=subprocess.PIPE)
        for name in names
    ]
    try:
        for process in processes:
            _wait_for_its_beginning(process)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def honest(server: servers.Server) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(server.url)) for _ in range(HONEST)
        ]
        for client in clients:
            await client.join("room:calm")
        yield clients


async def echoes(clients: list[Client], seconds: float) -> list[float]:
    """Return how long each echo took, in milliseconds, the slowest last."""
    took: list[float] = []
    end = time.monotonic() + seconds

    async def talk(client: Client, number: int) -> None:
        await asyncio.sleep(PACE * number / HONEST)
        while time.monotonic() < end:
            started = time.perf_counter()
            await client.ask("room:calm", "echo", {"n": number})
            took.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(PACE)

    await asyncio.gather(*(talk(client, n) for n, client in enumerate(clients)))
    return sorted(took)


def p99(took: list[float]) -> float:
    return took[int(len(took) * 0.99)]


class Cost(NamedTuple):
    """The delays of the honest clients, in milliseconds, and the costs of the process, in MiB and
    milliseconds of the loop; `highest` is what the process had at its highest, `memory` what it has
    when it is over."""

    calm: float
    p99: float
    worst: float
    held: float
    more_memory: float
    highest: float
    memory: float
    processor: float

    @property
    def ratio(self) -> float:
        return self.p99 / self.calm

    def __str__(self) -> str:
        return (
            f"p99 {self.calm:5.1f} -> {self.p99:6.1f} ms ({self.ratio:5.1f}), worst {self.worst:6.1f}, "
            f"held {self.held:6.1f} ms, {self.more_memory:+6.1f} MiB to {self.highest:5.1f}, leaves {self.memory:5.1f}, "
            f"{self.processor:.1f} s"
        )


async def cost(
    server: servers.Server,
    clients: list[Client],
    *names: str,
    seconds: float = 2,
    rise: float = RISE,
    calm_seconds: float = CALM,
) -> Cost:
    calm = p99(await echoes(clients, calm_seconds))
    before = await asyncio.to_thread(bears, server)
    attack = attacked(server, *names)
    await asyncio.to_thread(attack.__enter__)
    try:
        await echoes(clients, rise)
        took = await echoes(clients, seconds)
        after = await asyncio.to_thread(bears, server)
    finally:
        await asyncio.to_thread(attack.__exit__, None, None, None)
    await echoes(clients, CALM)
    left = await asyncio.to_thread(bears, server)
    return Cost(
        calm,
        p99(took),
        took[-1],
        after.held,
        after.most_memory - before.memory,
        after.most_memory,
        left.memory,
        after.processor - before.processor,
    )


async def page(seconds: float = 2.5) -> None:
    """The rows of the table: for each limit the worst that passes, on both servers."""
    worst = {
        attack: [await _alone(server_name, attack, seconds) for server_name in SERVERS]
        for attack in dict.fromkeys(WORST.values())
    }
    for limit, attack in WORST.items():
        on = worst[attack]
        cells = [
            *(f"{max(0, one.more_memory):.0f}" for one in on),
            *(f"{one.held:.0f}" for one in on),
        ]
        print(f"| {limit} | {attack} | {' | '.join(cells)} |", flush=True)


async def _alone(server_name: str, attack: str, seconds: float) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        with servers.serve(server_name, Path(folder, "log"), APPLICATION) as server:
            async with honest(server) as clients:
                await echoes(clients, CALM)
                found = await cost(server, clients, attack, seconds=seconds)
    print(f"{server_name:8}{attack:50}", found, file=sys.stderr, flush=True)
    return found


async def main(server_name: str = "frames", *names: str) -> None:
    if server_name == "--page":
        return await page()
    from tests.hostile.attacks import ATTACKS

    chosen = [a for a in ATTACKS if not names or any(n in a for n in names)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        for name in chosen:
            with servers.serve(server_name, log, APPLICATION) as server:
                async with honest(server) as clients:
                    await echoes(clients, CALM)
                    print(f"{name:50}", await cost(server, clients, name), flush=True)
        print(log.read_text()[-3000:])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
