"""rooms: the cost of a message where few get it, and of a join of a new topic.

python -m benchmarks.rooms MODE --url ws://... --server-pid PID [--beside-pid PID] [--json FILE]

Modes
  rooms   --rooms topics with --size sockets each; those of a room take the servers in turn. Sockets
          chosen at random push --rates messages a second, evenly, whether answers come or not. The
          server sends each to its room, the sender included, and acknowledges it.
  most    the same: the highest of --rates at which 99 of 100 deliveries take less than --late ms.
  storm   --joins sockets connect, --at-once of them at a time, and each joins a topic of its own.
  first   --sockets that are connected join --topics new topics each, all at once.

The sockets join `room:*`, whose event `shout_ack` broadcasts `shout` and then replies ok.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import random
import time
from array import array

from benchmarks.pace import evenly
from benchmarks.phxload import (
    Load,
    Modes,
    Round,
    Sock,
    drive,
    latency_ms,
    parser,
    raise_fd_limit,
)

#: bytes of the payload that are not padding
STAMPED = 35
#: a load is too much if its last delivery comes so many seconds after the last push
BEHIND = 0.5


class Hall:
    """Sockets in rooms, and a count of all that arrives there."""

    def __init__(self, load: Load) -> None:
        self.load, self.o = load, load.o
        self.pad = "x" * (self.o.payload - STAMPED)
        self.random = random.Random(self.o.size)
        self.size: int = self.o.size
        self.latencies = array("d")
        self.replies = self.sent = 0
        self.behind = 0.0

    async def open(self) -> None:
        """Fill the rooms. Room after room begins with the next server, so that all get as many."""
        urls, gate = self.o.url, asyncio.Semaphore(50)

        async def enter(room: int, seat: int) -> Sock:
            place = room if self.o.together else room + seat
            async with gate:
                sock = await self.load.connect(url=urls[place % len(urls)])
                await sock.join(f"room:r{room}")
                return sock

        seats = [(r, s) for s in range(self.o.size) for r in range(self.o.rooms)]
        self.load.socks = await asyncio.gather(*(enter(*seat) for seat in seats))
        for sock in self.load.socks:
            # a message of another room counts as lost
            own = f'"{sock.topic}"'.encode()
            sock.hook = functools.partial(self.on_message, own)
        keep_still()

    def on_message(self, own: bytes, sock: Sock, data: bytes) -> bool:
        i = data.find(b"#")
        if i < 0:
            self.replies += 1
        elif own in data:
            sent = int(data[i + 1 : i + 20])
            self.latencies.append((time.monotonic_ns() - sent) / 1e9)
        return True

    def say(self, sock: Sock) -> None:
        if sock.closed.done():
            return  # its deliveries are lost
        sock.refs += 1
        payload = f'{{"t":"#{time.monotonic_ns():019d}","p":"{self.pad}"}}'
        sock.send(f'["1","{sock.refs}","{sock.topic}","shout_ack",{payload}]'.encode())

    async def speak(self, rate: float, seconds: float) -> int:
        """Push evenly, and wait for all that follows. Return how many messages it were."""
        del self.latencies[:]
        self.replies, self.sent = 0, int(rate * seconds)
        speakers = self.random.choices(self.load.socks, k=self.sent)
        await evenly(rate, self.sent, lambda i: self.say(speakers[i]))
        said = time.monotonic()
        await self.load.settle(lambda: self.sent - self.missing(), self.sent)
        self.behind = time.monotonic() - said
        return self.sent

    def missing(self) -> int:
        """Count the deliveries and replies that have not come."""
        deliveries = self.sent * self.size
        return deliveries - len(self.latencies) + self.sent - self.replies

    async def at(self, rate: float) -> Round:
        """Measure what a message costs at this rate."""
        found = await self.load.cost(self.speak(rate, self.o.duration), "message")
        late = latency_ms(self.latencies)
        await asyncio.sleep(0.3)
        return {**found, **late, "lost": self.missing(), "behind_s": self.behind}


def keep_still() -> None:
    """Stop this process's collector, whose pauses would count as the server's latency."""
    gc.collect()
    gc.freeze()
    gc.disable()


async def rooms(load: Load) -> None:
    hall = Hall(load)
    await hall.open()
    await hall.speak(min(load.o.rates), 1)  # warm up
    load.rounds = [await at_all(hall) for _ in range(load.o.rounds)]


async def at_all(hall: Hall) -> Round:
    """Measure at each rate until one is too much; the names of the figures end with the rate."""
    found: Round = {}
    for rate in hall.o.rates:
        at = await hall.at(rate)
        found.update({f"{key}_{rate}": value for key, value in at.items()})
        if at["behind_s"] > BEHIND:
            break
    return found


async def most(load: Load) -> None:
    hall = Hall(load)
    await hall.open()
    await hall.speak(min(load.o.rates), 1)  # warm up
    load.rounds = [await highest(hall) for _ in range(load.o.rounds)]


async def highest(hall: Hall) -> Round:
    """Measure at each rate until one is too much, and return the figures of the one before."""
    best: Round = {"messages_per_s": 0, "lost": 0}
    for rate in hall.o.rates:
        at = await hall.at(rate)
        if at["lost"] or at["behind_s"] > BEHIND or at["p99_ms"] > hall.o.late:
            break
        best = {**at, "messages_per_s": rate}
    return best


async def storm(load: Load) -> None:
    o, latencies = load.o, array("d")
    gate = asyncio.Semaphore(o.at_once)

    async def enter(topic: str) -> None:
        async with gate:
            began = time.monotonic()
            sock = await load.connect()
            await sock.join(topic)
            latencies.append(time.monotonic() - began)
            load.socks.append(sock)

    async def enter_all(name: str, count: int) -> int:
        del latencies[:]
        await asyncio.gather(*(enter(f"room:{name}{i}") for i in range(count)))
        return len(latencies)

    def more() -> Round:
        return {"lost": o.joins - len(latencies), **latency_ms(latencies)}

    await enter_all("warm", 100)
    keep_still()
    for number in range(o.rounds):
        await load.measure(enter_all(f"{number}-", o.joins), "join", more)


async def first(load: Load) -> None:
    for _ in range(load.o.rounds):
        asking = Asking(load)
        await asking.open()
        await load.measure(asking.ask(), "join", asking.more)


class Asking:
    """Sockets that join new topics, all at the same time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.wanted = load.o.sockets * load.o.topics
        self.answers = array("d")
        self.began = 0.0

    async def open(self) -> None:
        self.socks = [await self.load.connect() for _ in range(self.load.o.sockets)]
        self.load.socks += self.socks
        for sock in self.socks:
            sock.hook = self.on_answer
        keep_still()

    def on_answer(self, sock: Sock, data: bytes) -> bool:
        if b'"ok"' in data:
            self.answers.append(time.monotonic() - self.began)
        return True

    async def ask(self) -> int:
        self.began = time.monotonic()
        for sock in self.socks:
            for i in range(self.load.o.topics):
                sock.push(f"room:{id(sock)}-{i}", "phx_join", {})
        await self.load.settle(lambda: len(self.answers), self.wanted)
        return len(self.answers)

    def more(self) -> Round:
        last = max(self.answers, default=0.0)
        lost = self.wanted - len(self.answers)
        return {"lost": lost, "seconds": last, **latency_ms(self.answers)}


MODES: Modes = {mode.__name__: mode for mode in (rooms, most, storm, first)}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = parser(MODES, __doc__)
    add = p.add_argument
    add("--rooms", type=int, default=200, help="rooms, most: topics")
    add("--size", type=int, default=5, help="rooms, most: sockets of a topic")
    add("--together", action="store_true", help="rooms, most: a room is on one server")
    add("--rates", default="500,2000", help="rooms, most: messages a second, in order")
    add("--duration", type=float, default=3, help="rooms, most: seconds at each rate")
    add("--late", type=float, default=50, help="most: ms that 1 % may exceed")
    add("--joins", type=int, default=1000, help="storm: in a round")
    add("--at-once", type=int, default=100, help="storm: so many at a time")
    add("--sockets", type=int, default=100, help="first")
    add("--topics", type=int, default=50, help="first: on each socket")
    o = p.parse_args(argv)
    o.rates = [int(rate) for rate in o.rates.split(",")]
    return o


def main() -> None:
    o = parse()
    raise_fd_limit(o.rooms * o.size + o.joins * o.rounds + 1000)
    drive(o, MODES)


if __name__ == "__main__":
    main()
