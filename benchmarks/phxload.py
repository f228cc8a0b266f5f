"""phxload: what a server that speaks the Phoenix Channels V2 protocol costs under load.

It opens many WebSocket connections, drives one kind of load, and reports the CPU time per message of
the servers' processes and their children (read from the kernel's CPU clocks), memory, loss and
latency. CPU time is the figure to trust on a shared machine; wall-clock rates depend on what else runs.

    python -m benchmarks.phxload fanout --server-pid 1234 \\
        --url "ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0"

The server must offer a channel `bench:*` that accepts every join and handles three events: `echo`
(reply ok with the payload), `shout` (broadcast event `shout` with the payload) and `blast`
(payload {"count": K, "payload": P}: broadcast event `m` K times with {"i": i, "p": P}, then ok).

Modes
  fanout  N sockets join one topic; one more asks for a blast of K broadcasts, and the round ends
          when everyone has everything (or nothing has arrived for --wait seconds).
  paced   the same sockets; the publisher shouts R times a second; reports delivery latency.
  echo    M sockets, one push in flight on each.
  join    connect, join, leave, close, in a loop, C at a time. With --rewind each join brings so
          many messages; the channel is `rewound:*` then, with a history of phx_protocol.
  idle    N sockets, each joined to one of 100 topics: memory per socket, then heartbeats.
  topics  T topics with one subscriber each, 100 on a socket: what joining them costs, and the
          broadcasts to them.

Every mode repeats its measurement --rounds times within the same connections and reports min,
median and max.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import socket
import statistics
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop
from picows import WSListener, WSMsgType, ws_connect

FAN_TOPIC = "bench:fan"
BEAT = b'[null,"hb","phoenix","heartbeat",{}]'
#: what most servers let a client join
TOPICS_ON_A_SOCKET = 100
DEFAULT_SOCKETS = {"echo": 100, "idle": 5000}

Round = dict[str, float]
Hook = Callable[["Sock", bytes], bool]


# ------------------------------------------------------------- what a process costs


def process_tree(root: int) -> list[int]:
    """The process and all its descendants that are alive now."""
    found: list[int] = []
    todo = [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/children") as f:
                    todo.extend(int(child) for child in f.read().split())
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the process tree so far, all threads, in nanosecond resolution."""
    total = 0
    for pid in process_tree(root):
        with contextlib.suppress(OSError):
            # the clock id of another process's CPU clock: see clock_getcpuclockid(3)
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total / 1e9


def rss_kib(root: int) -> int:
    total = 0
    for pid in process_tree(root):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Rss:"))
    return total


# ------------------------------------------------------------------- one Phoenix socket


class PhxError(Exception):
    pass


class Sock(WSListener):
    """A client socket. What its hook does not take is a reply that resolves a future."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.refs = 0
        self.hook: Hook | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.topic = ""
        self.sent_at = 0.0
        self.count = self.next_i = 0

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = frame.get_payload_as_bytes()
            if self.hook is None or not self.hook(self, data):
                self.resolve(data)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: Any) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(PhxError("the server closed the connection"))

    def resolve(self, data: bytes) -> None:
        _, ref, _, event, payload = json.loads(data)
        if event == "phx_reply":
            future = self.waiting.pop(ref, None)
            if future is not None and not future.done():
                future.set_result(payload)

    def send(self, data: bytes) -> None:
        self.transport.send(WSMsgType.TEXT, data)

    def push(self, topic: str, event: str, payload: Any) -> str:
        self.refs += 1
        message = ["1", str(self.refs), topic, event, payload]
        self.send(json.dumps(message, separators=(",", ":")).encode())
        return str(self.refs)

    async def call(self, topic: str, event: str, payload: Any) -> None:
        if self.closed.done():
            raise PhxError("the server closed the connection")
        future = asyncio.get_running_loop().create_future()
        self.waiting[self.push(topic, event, payload)] = future
        reply = await asyncio.wait_for(future, 60)
        if reply["status"] != "ok":
            raise PhxError(f"{topic} {event}: {reply}")

    async def join(self, topic: str) -> None:
        self.topic, self.refs = topic, 0  # so that the join's ref is "1", our join_ref
        await self.call(topic, "phx_join", {})

    async def close(self) -> None:
        self.transport.send_close(1000)
        try:
            await asyncio.wait_for(asyncio.shield(self.closed), 5)
        except TimeoutError:
            self.transport.disconnect()


# ------------------------------------------------------------ what every mode needs


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.o = options
        self.payload = "x" * options.payload
        self.socks: list[Sock] = []
        self.result: Round = {}
        self.rounds: list[Round] = []
        self.urls = itertools.cycle(options.url)

    def cpu(self) -> float:
        return sum(map(cpu_seconds, self.o.server_pid))

    def beside(self) -> float:
        return sum(map(cpu_seconds, self.o.beside_pid))

    def rss_kib(self) -> int:
        return sum(map(rss_kib, self.o.server_pid))

    async def connect(
        self, receive_buffer: int | None = None, url: str | None = None
    ) -> Sock:
        def small_socket(url: Any) -> socket.socket:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer or 0)
            s.setblocking(False)
            s.connect_ex((url.host, url.port))
            return s

        options: Any = {"socket_factory": small_socket} if receive_buffer else {}
        sock: Any
        _, sock = await ws_connect(
            Sock,
            url or next(self.urls),
            websocket_handshake_timeout=60,
            read_buffer_init_size=4096,
            max_frame_size=1 << 26,
            **options,
        )
        assert isinstance(sock, Sock)
        return sock

    async def connect_many(self, topic_of: Callable[[int], str]) -> list[Sock]:
        gate = asyncio.Semaphore(50)

        async def one(i: int) -> Sock:
            async with gate:
                sock = await self.connect()
                await sock.join(topic_of(i))
                return sock

        cpu, n = self.cpu(), self.o.sockets
        socks = await asyncio.gather(*(one(i) for i in range(n)))
        self.result["connect_join_cpu_us"] = (self.cpu() - cpu) / n * 1e6
        self.socks.extend(socks)
        return socks

    async def cost(self, work: Awaitable[int], unit: str) -> Round:
        """Await `work`, which returns how many units it did; return what they cost."""
        cpu, beside, started = self.cpu(), self.beside(), time.monotonic()
        units = await work
        wall, cpu = time.monotonic() - started, self.cpu() - cpu
        beside = self.beside() - beside
        return {
            "units": units,
            "units_per_s": units / wall,
            "server_cpu_share": cpu / wall,
            f"cpu_us_per_{unit}": cpu / max(units, 1) * 1e6,
            f"beside_us_per_{unit}": beside / max(units, 1) * 1e6,
        }

    async def measure(
        self, work: Awaitable[int], unit: str, more: Callable[[], Round]
    ) -> None:
        """Await `work`, as `cost` does, and record it as a round."""
        self.rounds.append({**await self.cost(work, unit), **more()})
        await asyncio.sleep(0.3)

    async def settle(self, count: Callable[[], int], target: int) -> None:
        """Return once count() reaches target, or has not moved for --wait seconds."""
        last, moved = count(), time.monotonic()
        while last < target:
            await asyncio.sleep(0.01)
            now = count()
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > self.o.wait:
                return


def latency_ms(values: array[float]) -> Round:
    ordered = sorted(values) or [float("nan")]
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": p99 * 1e3,
        "max_ms": ordered[-1] * 1e3,
    }


# ------------------------------------------------------------------ fanout and paced


class Fan:
    """Subscribers (of which some may never read) and a publisher, all joined to one topic."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.received = self.disorder = self.sent = 0
        self.latencies = array("d")

    def on_blast(self, sock: Sock, data: bytes) -> bool:
        if b'"m"' not in data:
            return False
        sock.count += 1
        self.received += 1
        return True

    def on_blast_checked(self, sock: Sock, data: bytes) -> bool:
        """One socket in --check-every parses what it gets, and checks that the order is right."""
        if not self.on_blast(sock, data):
            return False
        _, _, topic, event, payload = json.loads(data)
        if topic != FAN_TOPIC or event != "m" or payload["i"] not in (0, sock.next_i):
            self.disorder += 1
        sock.next_i = payload["i"] + 1
        return True

    def on_shout(self, sock: Sock, data: bytes) -> bool:
        i = data.find(b"#")
        if i < 0:
            return False
        self.latencies.append(time.monotonic() - int(data[i + 1 : i + 20]) / 1e9)
        self.received += 1
        return True

    async def open(self, paced: bool) -> None:
        load, o = self.load, self.load.o
        socks = await load.connect_many(lambda i: FAN_TOPIC)
        self.publisher = await load.connect()
        await self.publisher.join(FAN_TOPIC)
        load.socks.append(self.publisher)
        self.readers = [*socks, self.publisher]
        for i, sock in enumerate(self.readers):
            if paced:
                sock.hook = self.on_shout
            elif o.check_every and i % o.check_every == 0:
                sock.hook = self.on_blast_checked
            else:
                sock.hook = self.on_blast
        for _ in range(o.stalled):
            sock = await load.connect(receive_buffer=4096)
            await sock.join(FAN_TOPIC)
            sock.transport.underlying_transport.pause_reading()
            load.socks.append(sock)

    async def beat(self) -> None:
        """Heartbeats, between rounds: the server closes sockets that send nothing for long."""
        beats = (sock.call("phoenix", "heartbeat", {}) for sock in self.readers)
        await asyncio.gather(*beats)

    async def blast(self, count: int) -> int:
        start = self.received
        payload = {"count": count, "payload": self.load.payload}
        reply = asyncio.create_task(self.publisher.call(FAN_TOPIC, "blast", payload))
        target = start + len(self.readers) * count
        await self.load.settle(lambda: self.received, target)
        try:
            await asyncio.wait_for(reply, self.load.o.wait)
        except (TimeoutError, PhxError) as error:
            print(f"phxload: no reply to the blast: {error!r}", file=sys.stderr)
        return self.received - start

    async def shouts(self, rate: float, duration: float) -> int:
        start, self.sent, began = self.received, 0, time.monotonic()
        while self.sent < rate * duration:
            await asyncio.sleep(max(0, began + self.sent / rate - time.monotonic()))
            stamp = f"#{time.monotonic_ns():019d}"
            payload = {"t": stamp, "p": self.load.payload}
            self.publisher.push(FAN_TOPIC, "shout", payload)
            self.sent += 1
        target = start + self.sent * len(self.readers)
        await self.load.settle(lambda: self.received, target)
        return self.received - start


async def fanout(load: Load) -> None:
    o, fan = load.o, Fan(load)
    await fan.open(paced=False)
    await fan.blast(max(1, o.count // 10))  # warm up

    def more() -> Round:
        counts = [sock.count for sock in fan.readers]
        return {
            "lost": len(counts) * o.count - sum(counts),
            "fewest_on_a_socket": min(counts),
            "most_on_a_socket": max(counts),
        }

    for _ in range(o.rounds):
        await fan.beat()
        for sock in fan.readers:
            sock.count = 0
        await load.measure(fan.blast(o.count), "delivery", more)
    load.result["out_of_order"] = fan.disorder


async def paced(load: Load) -> None:
    o, fan = load.o, Fan(load)
    await fan.open(paced=True)
    await fan.shouts(o.rate, min(1.0, o.duration))  # warm up

    def more() -> Round:
        lost = fan.sent * len(fan.readers) - len(fan.latencies)
        return {"lost": lost, **latency_ms(fan.latencies)}

    for _ in range(o.rounds):
        await fan.beat()
        del fan.latencies[:]
        await load.measure(fan.shouts(o.rate, o.duration), "delivery", more)


# ------------------------------------------------------------------- echo, join, idle


async def echo(load: Load) -> None:
    o = load.o
    socks = await load.connect_many(lambda i: f"bench:{i}")
    latencies = array("d")
    running = True
    in_flight = 0
    tail = json.dumps({"p": load.payload}, separators=(",", ":"))

    def fire(sock: Sock) -> None:
        sock.refs += 1
        sock.sent_at = time.monotonic()
        sock.send(f'["1","{sock.refs}","{sock.topic}","echo",{tail}]'.encode())

    def on_reply(sock: Sock, data: bytes) -> bool:
        nonlocal in_flight
        latencies.append(time.monotonic() - sock.sent_at)
        if running:
            fire(sock)
        else:
            in_flight -= 1
        return True

    async def drive(duration: float) -> int:
        nonlocal running, in_flight
        running, in_flight = True, len(socks)
        del latencies[:]
        for sock in socks:
            fire(sock)
        await asyncio.sleep(duration)
        running = False
        await load.settle(lambda: -in_flight, 0)
        return len(latencies)

    def more() -> Round:
        return {"lost": in_flight, **latency_ms(latencies)}

    for sock in socks:
        sock.hook = on_reply
    await drive(min(1.0, o.duration))  # warm up
    for _ in range(o.rounds):
        await load.measure(drive(o.duration), "reply", more)


async def join(load: Load) -> None:
    latencies = array("d")
    failures, rewind = 0, load.o.rewind
    topics = [f"{'rewound' if rewind else 'bench'}:{i}" for i in range(100)]

    def on_shout(sock: Sock, data: bytes) -> bool:
        is_shout = b'"shout"' in data
        sock.count += is_shout
        return is_shout

    async def cycle(i: int) -> None:
        nonlocal failures
        started = time.monotonic()
        try:
            sock = await load.connect()
            sock.hook = on_shout if rewind else None
            await sock.join(topics[i % 100])
            latencies.append(time.monotonic() - started)
            await sock.call(sock.topic, "phx_leave", {})  # its answer is the last
            await sock.close()
            if sock.count != rewind:
                raise PhxError(f"{sock.count} of {rewind} messages came")
        except Exception as error:
            failures += 1
            print(f"phxload: {error!r}", file=sys.stderr)

    async def drive(total: int) -> int:
        nonlocal failures
        failures = 0
        del latencies[:]
        todo = iter(range(total))

        async def worker() -> None:
            for i in todo:
                await cycle(i)

        await asyncio.gather(*(worker() for _ in range(load.o.concurrency)))
        return len(latencies)

    def more() -> Round:
        return {"lost": failures, **latency_ms(latencies)}

    async def fill(topic: str) -> None:
        """Let `rewind` messages be there for everyone who comes."""
        sock = await load.connect()
        await sock.join(topic)
        sock.hook = on_shout
        for _ in range(rewind):
            sock.push(topic, "shout", {"p": load.payload})
        await load.settle(lambda: sock.count, rewind)
        await sock.close()

    if rewind:
        await asyncio.gather(*map(fill, topics))
    await drive(load.o.concurrency * 2)  # warm up
    for _ in range(load.o.rounds):
        await load.measure(drive(load.o.cycles), "join", more)


async def idle(load: Load) -> None:
    o = load.o
    # A few connections first, so that what is loaded and allocated once is not counted.
    for i in range(10):
        sock = await load.connect()
        await sock.join(f"bench:{i}")
        await sock.close()
    await asyncio.sleep(1)
    before = load.rss_kib()
    socks = await load.connect_many(lambda i: f"bench:{i % 100}")
    await asyncio.sleep(1)
    load.result["rss_kib_per_socket"] = (load.rss_kib() - before) / len(socks)
    replies = 0

    def on_reply(sock: Sock, data: bytes) -> bool:
        nonlocal replies
        replies += 1
        return True

    async def beats() -> int:
        nonlocal replies
        replies = 0
        for i, sock in enumerate(socks):
            sock.send(BEAT)
            if i % 50 == 49:
                await asyncio.sleep(0.005)
        await load.settle(lambda: replies, len(socks))
        return replies

    for sock in socks:
        sock.hook = on_reply
    await beats()
    for _ in range(o.rounds):
        await load.measure(beats(), "heartbeat", lambda: {"lost": len(socks) - replies})
    # what a quiet connection costs: CPU over a few seconds in which the client sends nothing
    cpu, started = load.cpu(), time.monotonic()
    await asyncio.sleep(o.quiet)
    quiet = (load.cpu() - cpu) / (time.monotonic() - started)
    load.result["quiet_cpu_us_per_socket_per_s"] = quiet / len(socks) * 1e6


# ------------------------------------------------------------------------------ topics


async def topics(load: Load) -> None:
    """Joins of topics that nobody has joined yet, and broadcasts to them at random."""
    o, heard = load.o, 0
    socks = [await load.connect() for _ in range(-(-o.topics // TOPICS_ON_A_SOCKET))]
    owners = [(f"bench:t{i}", socks[i % len(socks)]) for i in range(o.topics)]
    chosen = random.Random(o.topics)

    def on_shout(sock: Sock, data: bytes) -> bool:
        nonlocal heard
        heard += b'"shout"' in data[:60]
        return b'"shout"' in data[:60]

    async def join(topic: str, sock: Sock) -> None:
        async with gate:
            await sock.call(topic, "phx_join", {})

    async def shout() -> int:
        nonlocal heard
        heard = 0
        for topic, sock in chosen.choices(owners, k=o.count):
            sock.push(topic, "shout", {"p": load.payload})
            if sock.refs % 20 == 0:
                await asyncio.sleep(0)
        await load.settle(lambda: heard, o.count)
        return heard

    gate = asyncio.Semaphore(o.concurrency)
    for sock in socks:
        sock.hook = on_shout
    before, cpu = load.rss_kib(), load.cpu()
    await asyncio.gather(*(join(*owner) for owner in owners))
    await asyncio.sleep(1)
    load.result["cpu_us_per_new_topic"] = (load.cpu() - cpu) / o.topics * 1e6
    load.result["rss_kib_per_topic"] = (load.rss_kib() - before) / o.topics
    await shout()  # warm up
    for _ in range(o.rounds):
        lost = lambda: {"lost": o.count - heard}  # noqa: E731
        await load.measure(shout(), "broadcast", lost)
    load.socks = socks


# ------------------------------------------------------------------ the command line

Modes = Mapping[str, Callable[[Load], Awaitable[None]]]
MODES: Modes = {
    mode.__name__: mode for mode in (fanout, paced, echo, join, idle, topics)
}


def parser(modes: Modes, description: str | None) -> argparse.ArgumentParser:
    """A command line with what every mode needs."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("mode", choices=modes)
    add("--url", required=True, action="append", help="several: taken in turn")
    add("--server-pid", type=int, required=True, action="append")
    add(
        "--beside-pid",
        type=int,
        action="append",
        default=[],
        help="what the servers need beside them: Redis",
    )
    add("--json", help="write the result here")
    add("--rounds", type=int, default=3)
    add("--payload", type=int, default=100, help="bytes in the payload string")
    add("--wait", type=float, default=3, help="seconds without news: give up")
    return p


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = parser(MODES, __doc__)
    add = p.add_argument
    add("--sockets", type=int, help="default: 1000; echo 100; idle 5000")
    add("--count", type=int, default=50, help="fanout, topics: broadcasts in a round")
    add("--rate", type=float, default=10, help="paced: broadcasts a second")
    add("--duration", type=float, default=5, help="paced, echo: seconds in a round")
    add("--stalled", type=int, default=0, help="fanout, paced: more that never read")
    add("--check-every", type=int, default=50, help="fanout: one in so many checks")
    add("--concurrency", type=int, default=20, help="join, topics: so many at a time")
    add("--topics", type=int, default=1000, help="topics: on all sockets together")
    add("--cycles", type=int, default=1000, help="join: cycles in a round")
    add("--rewind", type=int, default=0, help="join: messages that each join brings")
    add("--quiet", type=float, default=3, help="idle: seconds of silence measured")
    o = p.parse_args(argv)
    o.sockets = o.sockets or DEFAULT_SOCKETS.get(o.mode, 1000)
    return o


def raise_fd_limit(wanted: int) -> None:
    """Have at least `wanted` file descriptors, or as many as the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def summarize(rounds: list[Round]) -> dict[str, Round]:
    """The least, the median and the most of each figure, over the rounds that have it."""

    def over(values: list[float]) -> Round:
        median = statistics.median(values)
        return {"min": min(values), "median": median, "max": max(values)}

    keys = dict.fromkeys(key for round_ in rounds for key in round_)
    return {key: over([r[key] for r in rounds if key in r]) for key in keys}


async def run(o: argparse.Namespace, modes: Modes) -> dict[str, Any]:
    load = Load(o)
    await modes[o.mode](load)
    for sock in load.socks:
        sock.transport.disconnect(False)
    return {"mode": o.mode, "result": load.result, "summary": summarize(load.rounds)}


def drive(o: argparse.Namespace, modes: Modes) -> None:
    """Run one mode, write its report to --json, and print it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run(o, modes))
    if o.json:
        with open(o.json, "w") as f:
            json.dump(report, f, indent=1)
    for key, value in report["result"].items():
        print(f"{key:32} {value:12.2f}")
    for key, s in report["summary"].items():
        print(f"{key:32} {s['median']:12.2f}   ({s['min']:.2f} .. {s['max']:.2f})")


def main(argv: list[str] | None = None) -> None:
    o = parse(argv)
    raise_fd_limit(o.sockets + o.stalled + 1000)
    drive(o, MODES)


if __name__ == "__main__":
    main()
