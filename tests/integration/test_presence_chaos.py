"""Two processes on one Redis, and what happens to them: what every tab shows in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support import leases, servers
from tests.support.leases import BEAT, LEASE, SHORT
from tests.support.presence_js import Shown
from tests.support.spread import SHARDS, Shards
from tests.support.ws_client import TIMEOUT, Client

APPLICATION = "tests.support.presence_app:application"
LAYERS = ["redis", "core"]
TOPIC = "room:lobby"
#: seconds that a busy machine may be late; whatever waited for a lease would be later
SLACK = 10.0
#: less than the two tries, of two seconds each, after which a call of Redis is given up
TRIES = 4.0


class Tab(Client):
    """A client that joins, and shows what phoenix.js's Presence would."""

    def __init__(self, server: servers.Server, user: str, device: str) -> None:
        super().__init__(server.url, user=user, device=device)
        self.name = f"{user}'s {device}"
        self.shown = Shown()
        self.replies: dict[str, asyncio.Future[Any]] = {}
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def enter(self, topic: str = TOPIC) -> Tab:
        self.topic = topic
        await self.__aenter__()
        self._reading = asyncio.create_task(self._read())
        ref = str(next(self.refs))
        self.join_refs[topic] = ref
        assert await self._ask([ref, ref, topic, "phx_join", {}]) == ("ok", {})
        return self

    async def do(self, event: str, payload: Any = None) -> Any:
        """Push, and have the reply's response."""
        ref = str(next(self.refs))
        frame = [self.join_refs[self.topic], ref, self.topic, event, payload or {}]
        status, response = await self._ask(frame)
        assert status == "ok", response
        return response

    async def _ask(self, frame: list[Any]) -> tuple[str, Any]:
        reply = self.replies[frame[1]] = asyncio.get_running_loop().create_future()
        await self.ws.send(json.dumps(frame))
        async with asyncio.timeout(TIMEOUT):
            answer = await reply
        return answer["status"], answer["response"]

    async def _read(self) -> None:
        async for text in self.ws:
            _, ref, _, event, payload = json.loads(text)
            if event == "phx_reply" and ref in self.replies:
                self.replies.pop(ref).set_result(payload)
            elif event == "presence_state":
                self.shown.take_state(payload)
            elif event == "presence_diff":
                self.shown.take_diff(payload)
            self._news.set()

    async def until(  # type: ignore[override]
        self, condition: Callable[[], bool], seconds: float, wanted: Any = None
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        if not condition():
            found = self.shown.metas("device")
            raise AssertionError(
                f"after {seconds:.1f} s {self.name} shows {found}, not {wanted}"
            )

    async def exit(self) -> None:
        await self.ws.close()
        if self._reading is not None:
            with contextlib.suppress(Exception):
                await self._reading

    @property
    def is_open(self) -> bool:
        return self._reading is not None and not self._reading.done()


async def show(wanted: dict[str, list[str]], *tabs: Tab, within: float) -> None:
    """Wait until every one of `tabs` shows these devices, and the very same refs."""
    end = time.monotonic() + within
    for tab in tabs:
        left = max(end - time.monotonic(), 0.01)
        await tab.until(lambda: tab.shown.metas("device") == wanted, left, wanted)
    # a tab may have shown the same devices before somebody left and came back
    while not all(tab.shown.refs() == tabs[0].shown.refs() for tab in tabs):
        assert time.monotonic() < end, [tab.shown.refs() for tab in tabs]
        await asyncio.sleep(0.01)
    assert all(tab.is_open for tab in tabs)


async def open_tabs(
    stack: contextlib.AsyncExitStack,
    *wanted: tuple[servers.Server, str, str],
    topic: str = TOPIC,
) -> list[Tab]:
    tabs = []
    for server, user, device in wanted:
        tabs.append(await Tab(server, user, device).enter(topic))
        stack.push_async_callback(tabs[-1].exit)
    return tabs


class Cluster:
    """Two processes and their Redis."""

    def __init__(self, directory: Path, layer: str, lease: float = LEASE) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._begin()
        self.env = {
            "PHX_LAYER": layer,
            "PHX_REDIS_URL": " ".join(f"redis://127.0.0.1:{p}/0" for p in self.ports),
            "DJANGO_SETTINGS_MODULE": "tests.support.presence_settings",
            "PHX_LEASE": str(lease),
        }
        self.clients = [Redis(port=port) for port in self.ports]
        for client in self.clients:
            self._stack.callback(client.close)
        self.one, self.two = self.start("one"), self.start("two")

    def _begin(self) -> None:
        self.ports = [servers.free_port()]
        #: on each server one
        self.topics = [TOPIC]
        self.start_redis()

    def start_redis(self) -> None:
        """An empty Redis, where the last one was."""
        self.redis = self._stack.enter_context(
            servers.redis(self._directory, self.ports[0])
        )

    @property
    def client(self) -> Redis:
        return self.clients[0]

    @property
    def all_of_redis(self) -> list[servers.Server]:
        return [self.redis]

    def start(self, name: str) -> servers.Server:
        log = self._directory / name
        return self._stack.enter_context(
            servers.serve("uvicorn", log, APPLICATION, **self.env)
        )

    def close(self) -> None:
        self._stack.close()

    def keys(self) -> dict[str, float]:
        """The keys of the state, and the seconds for which they live."""
        found = sorted(key.decode() for key in self.client.scan_iter("asgi:phx:*}*:*"))
        return {key: self.client.pttl(key) / 1000 for key in found}  # type: ignore[operator]

    def entries(self) -> list[str]:
        return [
            ref.decode()
            for client in self.clients
            for key in client.scan_iter("asgi:phx:*:entries:*")
            for ref in client.hkeys(key)  # type: ignore[union-attr]
        ]


class SpreadCluster(Cluster):
    """Two processes, and three servers for the layer and the state."""

    def _begin(self) -> None:
        self.topics = [f"room:{n}" for n in range(SHARDS)]
        self.shards = Shards(self._directory, self.topics)
        self._stack.callback(self.shards.stop)
        self.ports = self.shards.ports

    @property
    def all_of_redis(self) -> list[servers.Server]:
        return self.shards.servers


def signalled(server: servers.Server, how: signal.Signals) -> float:
    """Send a signal; returns when."""
    os.killpg(server.process.pid, how)
    return time.monotonic()


#: marks what also runs on three servers
ON_THREE_TOO = pytest.mark.parametrize(
    "cluster", [Cluster, SpreadCluster], ids=["one", "three"], indirect=True
)


@pytest.fixture
def lease(request: pytest.FixtureRequest) -> float:
    return getattr(request, "param", LEASE)


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, lease: float
) -> Iterator[Cluster]:
    cluster = getattr(request, "param", Cluster)(tmp_path, "redis", lease)
    yield cluster
    cluster.close()


def with_lease(seconds: float) -> pytest.MarkDecorator:
    """For a test that waits until one has run out."""
    return pytest.mark.parametrize(
        "lease", [seconds], indirect=True, ids="lease={}".format
    )


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


Stack = contextlib.AsyncExitStack


#: seconds that a key may live, of which the last was about to begin when it was written
EXPIRY = 10 * LEASE + 1


@pytest.mark.parametrize("layer", LAYERS)
async def test_all_tabs_show_the_same_and_nothing_stays_behind(
    layer: str, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path, layer)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await visit(stack, cluster)
            assert all(0 < ttl <= EXPIRY for ttl in cluster.keys().values())
        stop = time.monotonic() + TIMEOUT
        while cluster.entries():  # what the last ones had goes with their sockets
            assert time.monotonic() < stop, cluster.keys()
            await asyncio.sleep(0.01)
        for server in (cluster.one, cluster.two):
            server.stop(signal.SIGTERM)
            assert server.logged() == ""
        assert cluster.entries() == []
        assert all(0 < ttl <= EXPIRY for ttl in cluster.keys().values())
    finally:
        cluster.close()


async def visit(stack: Stack, cluster: Cluster) -> None:
    one, two = cluster.one, cluster.two
    wanted = {"ada": ["phone"], "bob": ["desk"]}
    tabs = await open_tabs(stack, (one, "ada", "phone"), (two, "bob", "desk"))
    await show(wanted, *tabs, within=SLACK)
    # a second device, on the other process
    tabs += await open_tabs(stack, (two, "ada", "laptop"))
    await show({**wanted, "ada": ["laptop", "phone"]}, *tabs, within=SLACK)
    await tabs[0].do("update", {"device": "tablet"})
    await show({**wanted, "ada": ["laptop", "tablet"]}, *tabs, within=SLACK)
    await tabs[2].exit()
    await show({**wanted, "ada": ["tablet"]}, *tabs[:2], within=SLACK)
    await tabs[0].do("phx_leave")
    await show({"bob": ["desk"]}, tabs[1], within=SLACK)
    # where nobody is on a process, nothing is followed; who comes back sees what is
    await tabs[1].do("update", {"device": "sofa"})
    (eve,) = await open_tabs(stack, (one, "eve", "watch"))
    await show({"bob": ["sofa"], "eve": ["watch"]}, eve, tabs[1], within=SLACK)


@ON_THREE_TOO
async def test_a_storm_on_both_processes_ends_the_same_everywhere(
    cluster: Cluster, stack: Stack
) -> None:
    await storm(cluster, stack, tabs=10, steps=150, seed=1)


@pytest.mark.big
@ON_THREE_TOO
@pytest.mark.parametrize("seed", range(5))
async def test_a_big_storm_ends_the_same_everywhere(
    cluster: Cluster, stack: Stack, seed: int
) -> None:
    await storm(cluster, stack, tabs=40, steps=1500, seed=seed)


#: seconds of a lease that is lost again and again
BAD = 2.0


@pytest.mark.big
@ON_THREE_TOO
@with_lease(BAD)
@pytest.mark.parametrize("seed", range(5))
async def test_a_storm_in_bad_weather_ends_the_same_everywhere(
    cluster: Cluster, stack: Stack, seed: int
) -> None:
    chance = random.Random(seed)

    async def weather() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0, 0.5))
            await chance.choice([flush, deafen, pause])()

    async def flush() -> None:
        chance.choice(cluster.clients).flushall()

    async def deafen() -> None:
        client = chance.choice(cluster.clients)
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def pause() -> None:
        paused = chance.choice([cluster.one, cluster.two, *cluster.all_of_redis])
        signalled(paused, signal.SIGSTOP)
        try:
            await asyncio.sleep(chance.choice([0.05, 0.3, BAD + BEAT]))
        finally:
            signalled(paused, signal.SIGCONT)

    changing = asyncio.create_task(weather())
    try:
        await storm(cluster, stack, tabs=20, steps=2500, seed=seed, calms=changing)
    finally:
        changing.cancel()


async def storm(
    cluster: Cluster,
    stack: Stack,
    *,
    tabs: int,
    steps: int,
    seed: int,
    calms: asyncio.Task[None] | None = None,
) -> None:
    chance = random.Random(seed)
    one, two = cluster.one, cluster.two
    watching = (one, "one", "-"), (two, "two", "-")
    watchers = {
        topic: await open_tabs(stack, *watching, topic=topic)
        for topic in cluster.topics
    }
    running: dict[int, Tab] = {}
    devices: dict[int, str] = {}

    async def step(n: int) -> None:
        if n not in running:
            devices[n] = f"d{n}"
            server = chance.choice([one, two])
            topic = cluster.topics[n % len(cluster.topics)]
            running[n] = await Tab(server, f"u{n % 5}", devices[n]).enter(topic)
            stack.push_async_callback(running[n].exit)
        elif chance.random() < 0.5:
            devices[n] = f"d{n}.{chance.randrange(100)}"
            await running[n].do("update", {"device": devices[n]})
        else:
            await running.pop(n).exit()

    async def life(n: int) -> None:
        for _ in range(steps // tabs):
            await step(n)

    await asyncio.gather(*(life(n) for n in range(tabs)))
    if calms is not None:
        calms.cancel()
        await asyncio.wait({calms})
    # after bad weather leases are lost and dead ones are buried
    seconds = 2 * BEAT + SLACK if calms is None else 2 * BAD + SLACK
    for place, topic in enumerate(cluster.topics):
        there = {n: t for n, t in running.items() if n % len(cluster.topics) == place}
        wanted = {"one": ["-"], "two": ["-"]}
        for n in there:
            wanted.setdefault(f"u{n % 5}", []).append(devices[n])
            wanted[f"u{n % 5}"].sort()
        await show(wanted, *watchers[topic], *there.values(), within=seconds)


@with_lease(SHORT)
async def test_a_killed_process_is_gone_from_every_list_when_its_lease_ends(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack,
        (cluster.one, "ada", "phone"),
        (cluster.one, "bob", "desk"),
        (cluster.two, "ada", "laptop"),
        (cluster.two, "eve", "watch"),
    )
    both = {"ada": ["laptop", "phone"], "bob": ["desk"], "eve": ["watch"]}
    await show(both, *tabs, within=SLACK)
    killed = signalled(cluster.two, signal.SIGKILL)
    await show({"ada": ["phone"], "bob": ["desk"]}, *tabs[:2], within=SHORT + SLACK)
    assert time.monotonic() - killed <= SHORT + SLACK
    assert len(cluster.entries()) == 2
    assert cluster.one.logged() == ""


async def test_a_process_that_is_paused_longer_than_its_lease_is_back_with_all(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack,
        (cluster.one, "ada", "phone"),
        (cluster.two, "ada", "laptop"),
        (cluster.two, "eve", "watch"),
    )
    both = {"ada": ["laptop", "phone"], "eve": ["watch"]}
    await show(both, *tabs, within=SLACK)
    signalled(cluster.two, signal.SIGSTOP)
    try:
        leases.end(cluster.client, cluster.two)
        await show({"ada": ["phone"]}, tabs[0], within=SLACK)
        await tabs[0].do("update", {"device": "tablet"})
        tabs += await open_tabs(stack, (cluster.one, "bob", "desk"))
    finally:
        signalled(cluster.two, signal.SIGCONT)
    all_of_them = {"ada": ["laptop", "tablet"], "bob": ["desk"], "eve": ["watch"]}
    await show(all_of_them, *tabs, within=3 * BEAT + SLACK)
    await tabs[2].do("update", {"device": "ring"})  # it is heard again at once
    await show({**all_of_them, "eve": ["ring"]}, *tabs, within=SLACK)
    assert cluster.two.logged().count("the lease of ") == 1
    assert cluster.one.logged() == ""


async def test_redis_may_go_and_come_back_empty(cluster: Cluster, stack: Stack) -> None:
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    wanted = {"ada": ["phone"], "bob": ["desk"]}
    await show(wanted, *tabs, within=SLACK)
    cluster.redis.stop(signal.SIGKILL)
    started = time.monotonic()
    tabs += await open_tabs(stack, (cluster.one, "eve", "watch"))
    assert time.monotonic() - started < TRIES  # it waits for nothing that is not there
    near = {**wanted, "eve": ["watch"]}
    await show(near, tabs[0], tabs[2], within=SLACK)
    await tabs[1].do("update", {"device": "sofa"})
    await show({**wanted, "bob": ["sofa"]}, tabs[1], within=SLACK)
    (late,) = await open_tabs(stack, (cluster.two, "joe", "late"))
    await show({"bob": ["sofa"], "joe": ["late"], "ada": ["phone"]}, late, within=SLACK)
    await late.exit()

    cluster.start_redis()
    same = {**near, "bob": ["sofa"]}
    await show(same, *tabs, within=5 * BEAT + SLACK)
    listed = await tabs[1].do("list")
    assert listed.keys() == same.keys()
    stop = time.monotonic() + TIMEOUT
    while len(cluster.entries()) != 3:
        assert time.monotonic() < stop
        await asyncio.sleep(0.01)
    for server in (cluster.one, cluster.two):
        logged = server.logged()
        assert logged.count("the state fails") == 1, logged
        assert logged.count("the state works again") == 1, logged
        assert logged.count("the lease of ") == 1, logged
        # once an outage that is noticed, or when a stale connection turns up
        assert logged.count("the channel layer fails") <= 3, logged
    # what happens next needs no hints: the layer may take longer to come back
    await tabs[0].do("update", {"device": "tablet"})
    await show({**same, "ada": ["tablet"]}, *tabs, within=BEAT + SLACK)


async def test_a_redis_that_hangs_holds_nobody_up(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    await show({"ada": ["phone"], "bob": ["desk"]}, *tabs, within=SLACK)
    signalled(cluster.redis, signal.SIGSTOP)
    try:
        asking = asyncio.create_task(tabs[0].do("update", {"device": "tablet"}))
        near = {"ada": ["tablet"], "bob": ["desk"]}
        await show(near, tabs[0], within=TRIES + SLACK)
        await asking
        # from then on it is known to hang
        started = time.monotonic()
        await tabs[0].do("update", {"device": "glasses"})
        assert time.monotonic() - started < TRIES
    finally:
        signalled(cluster.redis, signal.SIGCONT)
    await show({"ada": ["glasses"], "bob": ["desk"]}, *tabs, within=5 + SLACK)
    assert cluster.one.logged().count("the state fails") == 1, cluster.one.logged()


async def test_lists_are_right_again_soon_after_all_was_flushed(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack,
        (cluster.one, "ada", "phone"),
        (cluster.two, "ada", "laptop"),
        (cluster.two, "bob", "desk"),
    )
    wanted = {"ada": ["laptop", "phone"], "bob": ["desk"]}
    await show(wanted, *tabs, within=SLACK)
    before = tabs[0].shown.refs()
    cluster.client.flushall()
    stop = time.monotonic() + 3 * BEAT + SLACK
    while len(cluster.entries()) != 3:
        assert time.monotonic() < stop
        await asyncio.sleep(0.01)
    await show(wanted, *tabs, within=2 * BEAT + SLACK)
    assert tabs[0].shown.refs() == before  # nobody has joined again
    (eve,) = await open_tabs(stack, (cluster.one, "eve", "watch"))
    await show({**wanted, "eve": ["watch"]}, eve, *tabs, within=SLACK)
    await tabs[0].exit()
    await show(
        {"ada": ["laptop"], "bob": ["desk"], "eve": ["watch"]},
        eve,
        *tabs[1:],
        within=SLACK,
    )


async def test_a_change_during_a_flush_is_lost_nowhere(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    for n in range(5):
        cluster.client.flushall()
        await asyncio.gather(*(tab.do("update", {"device": str(n)}) for tab in tabs))
    await show({"ada": ["4"], "bob": ["4"]}, *tabs, within=4 * BEAT + SLACK)


async def test_a_hint_that_is_lost_is_made_up_for_at_the_next_beat(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    wanted = {"ada": ["phone"], "bob": ["desk"]}
    await show(wanted, *tabs, within=SLACK)
    seen = len(tabs[1].shown.diffs)
    # nobody can subscribe while this goes on: what is published is lost for all
    cluster.client.execute_command("ACL", "SETUSER", "default", "-subscribe")
    signalled(cluster.two, signal.SIGSTOP)  # it would beat meanwhile
    try:
        cluster.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await tabs[0].do("track", {"key": "second"})
        await tabs[0].do("track", {"key": "third"})
        await tabs[0].do("untrack", {"key": "third"})
        client = cluster.client
        assert client.pubsub_numpat() == 0 and not client.pubsub_channels()
        assert len(tabs[1].shown.diffs) == seen
    finally:
        changed = signalled(cluster.two, signal.SIGCONT)
    await show({**wanted, "second": ["second"]}, *tabs, within=BEAT + SLACK)
    assert time.monotonic() - changed < BEAT + SLACK
    cluster.client.execute_command("ACL", "SETUSER", "default", "+subscribe")


@with_lease(SHORT)
async def test_a_change_without_a_hint_shows_at_the_next_beat(
    cluster: Cluster, stack: Stack
) -> None:
    """As a process that dies between the change and the hint leaves it."""
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    wanted = {"ada": ["phone"], "bob": ["desk"]}
    await show(wanted, *tabs, within=SLACK)
    code = """
import asyncio
from phx_protocol.presence.entries import Entry
from phx_protocol.state import get_state

async def main():
    state = get_state()
    entry = Entry.make("eve", 1, {"device": "watch"})
    assert await state.beat("dying", {}, first=True)
    await state.change("rooms\\nroom:lobby", "dying", {entry.ref: entry.pack()}, ())
    await state.close()

asyncio.run(main())
"""
    await run_script(cluster, code)
    await show({**wanted, "eve": ["watch"]}, *tabs, within=BEAT + SLACK)
    await show(wanted, *tabs, within=SHORT + SLACK)  # and goes with its lease


async def run_script(cluster: Cluster, code: str) -> None:
    command = [sys.executable, "-m", "django", "shell", "-v", "0", "-c", code]
    env = {**os.environ, **cluster.env}
    process = await servers.start_async(
        *command,
        env=env,
        cwd=servers.ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_a_process_that_is_stopped_takes_its_clients_with_it_at_once(
    cluster: Cluster, stack: Stack
) -> None:
    tabs = await open_tabs(
        stack, (cluster.one, "ada", "phone"), (cluster.two, "bob", "desk")
    )
    await show({"ada": ["phone"], "bob": ["desk"]}, *tabs, within=SLACK)
    signalled(cluster.two, signal.SIGTERM)
    await show({"ada": ["phone"]}, tabs[0], within=SLACK)
    cluster.two.stop()
    assert cluster.two.logged() == ""
    assert len(cluster.entries()) == 1
