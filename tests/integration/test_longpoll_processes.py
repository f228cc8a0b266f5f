"""Long-poll over two processes behind an nginx that sends every request to the next one.

Whatever process a session lives in, each of its requests may reach either: what is not
answered there travels over Redis, on both layers of channels_redis, with their own defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import servers
from tests.support.poll_client import Answer, Poller, RawSession, messages
from tests.support.ws_client import Client

APPLICATION = "tests.integration.asgi:application"
LAYERS = ["redis", pytest.param("core-default", marks=pytest.mark.big)]
CLIENTS = 8


class Cluster(NamedTuple):
    """Two processes, and the nginx before them."""

    one: servers.Server
    two: servers.Server
    nginx: servers.Server

    @property
    def addresses(self) -> set[str]:
        return {self.one.address, self.two.address}


@contextlib.contextmanager
def cluster_on(layer: str, redis_url: str, directory: Path) -> Iterator[Cluster]:
    env = {"PHX_LAYER": layer, "PHX_REDIS_URL": redis_url}
    with (
        servers.serve("uvicorn", directory / "one", APPLICATION, **env) as one,
        servers.serve("uvicorn", directory / "two", APPLICATION, **env) as two,
        servers.nginx(directory, one, two) as nginx,
    ):
        yield Cluster(one, two, nginx)


@pytest.fixture(scope="module", params=LAYERS)
def layer(request: pytest.FixtureRequest, redis_url: str) -> tuple[str, str]:
    # a database for each layer keeps the tests apart
    url = redis_url.replace("/0", "/3" if request.param == "redis" else "/4")
    return request.param, url


@pytest.fixture(scope="module")
def cluster(
    layer: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """For the tests that leave the processes as they were."""
    with cluster_on(*layer, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def mortal(layer: tuple[str, str], tmp_path: Path) -> Iterator[Cluster]:
    """For one that kills."""
    with cluster_on(*layer, tmp_path) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def pollers(
    server: servers.Server, topic: str, count: int = CLIENTS
) -> AsyncIterator[list[Poller]]:
    """So many clients of `server` that have joined `topic`."""
    async with contextlib.AsyncExitStack() as stack:
        # all at once: one after the other, every open would have a poll behind it, and the
        # same process
        entering = (
            stack.enter_async_context(Poller(server.address)) for _ in range(count)
        )
        clients = await asyncio.gather(*entering)
        await asyncio.gather(*(client.join(topic) for client in clients))
        yield clients


def blasted(client: Poller, name: str) -> list[int]:
    """The numbers of the blast `name` as `client` got them."""
    return [m["i"] for m in client.payloads("m") if m["p"] == name]


async def expect_blast(
    clients: list[Poller], topic: str, name: str, count: int
) -> None:
    """All of them get all of it, once and in order."""
    for client in clients:
        await client.until(lambda: count - 1 in blasted(client, name))
        # and nothing comes behind it but the answer to this
        assert await client.ask(topic, "echo", {"a": name}) == ("ok", {"a": name})
        assert blasted(client, name) == list(range(count))


# ------------------------------------------------------------------ all is well

COUNTS = [1000, pytest.param(10_000, marks=pytest.mark.big)]


@pytest.mark.parametrize("count", COUNTS)
async def test_clients_behind_a_round_robin_get_every_broadcast_once_and_in_order(
    cluster: Cluster, count: int
) -> None:
    topic = f"bench:{count}"
    async with (
        pollers(cluster.nginx, topic) as clients,
        Client(cluster.one.url, "/polled") as one,
        Client(cluster.two.url, "/polled") as two,
    ):
        for publisher in (one, two):
            await publisher.join(topic)
            await publisher.push(
                topic, "blast", {"count": count, "payload": publisher.url}
            )
        # they lived on both processes
        assert {client.homes[0] for client in clients} == cluster.addresses
        for publisher in (one, two):
            await expect_blast(clients, topic, publisher.url, count)
        assert all(len(client.homes) == 1 for client in clients)
        # and from both, some were answered by the other one
        relayed = {
            client.homes[0]
            for client in clients
            if any(answer.upstream != client.homes[0] for answer in client.answers)
        }
        assert relayed == cluster.addresses


@pytest.mark.parametrize("count", COUNTS)
async def test_a_client_that_polls_broadcasts_to_all_the_others(
    cluster: Cluster, count: int
) -> None:
    topic = f"room:{count}"
    async with pollers(cluster.nginx, topic) as clients:
        publisher, wanted = clients[0], list(range(count))
        for i in wanted:
            await publisher.push(topic, "shout", {"i": i})
        for client in clients:
            await client.until(lambda: len(client.payloads("shout")) >= count)
            assert await client.ask(topic, "ok") == ("ok", {})
            assert [p["i"] for p in client.payloads("shout")] == wanted
            assert len(client.homes) == 1


async def test_messages_beyond_the_relay_limit_come_in_several_answers(
    cluster: Cluster,
) -> None:
    session = RawSession("/slow")
    await session.open(cluster.one.port)
    frames = [["1", "1", "room:large", "phx_join", {}]]
    frames += [
        ["1", str(i), "room:large", "echo", {"x": "x" * 10**6}] for i in range(7)
    ]
    for frame in frames:
        assert await session.send(cluster.one.port, frame) == {"status": 200}
    got: list[list[object]] = []
    sizes = []
    while len(got) < 8:
        part = messages(await session.poll(cluster.two.port))
        sizes.append(len(part))
        got += part
    assert [frame[1] for frame in got] == ["1", *map(str, range(7))]
    assert len(sizes) > 1


async def test_a_post_that_is_too_large_to_be_relayed_is_refused_and_the_session_lives(
    cluster: Cluster,
) -> None:
    session = RawSession("/slow")
    await session.open(cluster.one.port)
    join = ["1", "1", "room:large", "phx_join", {}]
    large = [
        ["1", str(i), "room:large", "noreply", {"x": "x" * 10**6}] for i in range(5)
    ]
    assert await session.send(cluster.two.port, join) == {"status": 200}
    refused = await session.send(cluster.two.port, *large)
    assert refused == {"status": 413, "reason": refused["reason"]}
    assert "large" in refused["reason"]
    # where it lives it is not too large
    assert await session.send(cluster.one.port, *large) == {"status": 200}
    ask = ["1", "9", "room:large", "echo", {"a": 1}]
    assert await session.send(cluster.two.port, ask) == {"status": 200}
    got: list[str] = []
    while not got or got[-1] != "9":
        got += [frame[1] for frame in messages(await session.poll(cluster.two.port))]
    assert got == ["1", "9"]


# ------------------------------------------------------------- a process is killed


async def test_clients_of_a_killed_process_come_back_and_the_others_notice_nothing(
    mortal: Cluster,
) -> None:
    topic = "bench:killed"
    async with (
        pollers(mortal.nginx, topic) as clients,
        Client(mortal.one.url, "/polled") as publisher,
    ):
        at_home = [c for c in clients if c.homes == [mortal.one.address]]
        homeless = [c for c in clients if c.homes == [mortal.two.address]]
        assert at_home and len(at_home) + len(homeless) == CLIENTS
        await publisher.join(topic)
        await publisher.push(topic, "blast", {"count": 500, "payload": "before"})
        # who has a later answer has confirmed the blast, wherever it was confirmed
        await expect_blast(clients, topic, "before", 500)

        mortal.two.stop(signal.SIGKILL)
        await publisher.push(topic, "blast", {"count": 500, "payload": "while"})
        await expect_blast(at_home, topic, "while", 500)
        for client in homeless:
            await client.until(lambda: client.homes[-1] == mortal.one.address)
            async with asyncio.timeout(30):
                await client.joined[topic].wait()
        await publisher.push(topic, "blast", {"count": 1000, "payload": "after"})
        await expect_blast(clients, topic, "after", 1000)
        assert all(blasted(c, "before") == list(range(500)) for c in clients)
        assert all(len(c.homes) == 1 for c in at_home)


async def test_a_process_killed_in_a_burst_loses_nothing_of_sessions_elsewhere(
    mortal: Cluster,
) -> None:
    """An answer that was written when its process died may come again, whole, and nothing else.

    One that was being written ends in the middle: its client gives the session up, as phoenix.js
    does.
    """
    topic = "room:burst"
    async with (
        pollers(mortal.nginx, topic) as clients,
        Client(mortal.one.url, "/polled") as publisher,
    ):
        at_home = [c for c in clients if c.homes == [mortal.one.address]]
        await publisher.join(topic)
        for i in range(2000):
            await publisher.push(topic, "shout", {"i": i})
            if i == 1000:
                await at_home[0].until(lambda: len(at_home[0].payloads("shout")) > 500)
                mortal.two.stop(signal.SIGKILL)
        for client in at_home:
            await client.until(
                lambda: client.cut_off or {"i": 1999} in client.payloads("shout")
            )
        whole = [client for client in at_home if not client.cut_off]
        assert whole
        for client in whole:
            assert await client.ask(topic, "ok") == ("ok", {})
            frames = without_repeats(client.answers, mortal.two.address)
            assert [f[4]["i"] for f in frames if f[3] == "shout"] == list(range(2000))
            assert len(client.homes) == 1
        for client in clients:
            await client.until(lambda: client.homes[-1] == mortal.one.address)


def without_repeats(answers: list[Answer], killed: str) -> list[list[Any]]:
    """All frames, where the last answers of `killed` count once if what follows begins with them:
    that they were written may have died with it."""
    last = max((i for i, a in enumerate(answers) if a.upstream == killed), default=-1)
    before = [answer.frames for answer in answers[: last + 1]]
    after = [frame for answer in answers[last + 1 :] for frame in answer.frames]
    head = [frame for frames in before for frame in frames]
    for i in range(len(before)):
        if answers[i].upstream == killed and any(before[i:]):
            again = [frame for frames in before[i:] for frame in frames]
            if after[: len(again)] == again:
                return head + after[len(again) :]
    return head + after


# ----------------------------------------------------------- a poll is dropped


async def logged(text: str, *running: servers.Server) -> None:
    """Wait until one of the servers has written a line `text`."""
    async with asyncio.timeout(20):
        while not any(f"{text}\n" in server.logged() for server in running):
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def raw_session(
    cluster: Cluster, topic: str
) -> AsyncIterator[tuple[RawSession, Client]]:
    """A session on process one that has joined, and a publisher on process two."""
    session = RawSession("/slow")
    await session.open(cluster.one.port)
    async with Client(cluster.two.url, "/polled") as publisher:
        await publisher.join(topic)
        assert await session.send(
            cluster.one.port, ["1", "1", topic, "phx_join", {}]
        ) == {"status": 200}
        joined = messages(await session.poll(cluster.one.port))
        assert [frame[3] for frame in joined] == ["phx_reply"]
        yield session, publisher


async def numbers(session: RawSession, port: int, count: int) -> list[int]:
    """Poll until at least `count` numbered messages have come."""
    got: list[int] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            answer = await session.poll(port)
            assert answer["status"] in (200, 204)
            got += [frame[4]["i"] for frame in messages(answer)]
    return got


@pytest.mark.parametrize("way", ["one", "two", "nginx"])
async def test_a_poll_that_is_aborted_before_a_broadcast_costs_nothing(
    cluster: Cluster, way: str
) -> None:
    topic, port = f"room:aborted {way}", getattr(cluster, way).port
    async with raw_session(cluster, topic) as (session, publisher):
        for i in range(0, 50, 5):
            for n in range(3):
                poll = await session.request(port, "GET", f"&n={way}{i + n}")
                await logged(f"poll {way}{i + n} waits", cluster.one, cluster.two)
                poll.reset()
                await logged(f"poll {way}{i + n} gone", cluster.one, cluster.two)
            for n in range(5):
                await publisher.ask(topic, "shout_ack", {"i": i + n})
            assert await numbers(session, port, 5) == list(range(i, i + 5))


@pytest.mark.parametrize("way", ["one", "two"])
async def test_polls_that_end_at_random_moments_lose_nothing_and_repeat_nothing(
    cluster: Cluster, way: str
) -> None:
    """The client ends its side and reads on: it sees all that was written for it, to the byte.

    What the server did not get rid of must come with a later poll, what it did must not.
    """
    topic, port = f"room:random {way}", getattr(cluster, way).port
    chance = random.Random(f"{way} 1")
    async with raw_session(cluster, topic) as (session, publisher):

        async def publish() -> None:
            for i in range(1000):
                await publisher.push(topic, "shout", {"i": i})
                if chance.random() < 0.25:
                    await asyncio.sleep(chance.random() * 0.01)

        got: list[int] = []

        async def poll_once(timeout: float | None) -> bool:
            """Whether the client went before the answer came."""
            poll, begun = await session.request(port, "GET"), b""
            if timeout is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        begun = await poll.reader.read(1)
                if not begun:
                    poll.writer.write_eof()
            answer = await poll.rest(begun)
            assert answer is None or answer["status"] in (200, 204), answer
            got.extend(frame[4]["i"] for frame in messages(answer))
            assert got == list(range(len(got)))
            return timeout is not None and not begun

        publishing = asyncio.create_task(publish())
        try:
            async with asyncio.timeout(60):
                ended = 0
                while ended < 200:
                    ended += await poll_once(chance.random() * 0.008)
                while len(got) < 1000:
                    await poll_once(None)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)


async def test_an_answer_that_is_cut_off_in_the_middle_comes_again(
    cluster: Cluster,
) -> None:
    topic = "room:cut"
    async with raw_session(cluster, topic) as (session, publisher):
        async with Client(cluster.one.url, "/polled") as other:
            await other.join(topic)
            for i in range(8):
                await publisher.ask(topic, "shout_ack", {"i": i, "x": "x" * 10**6})
                # the session, in the same process, has it too
                assert (await other.until("shout"))["i"] == i
        for _ in range(3):
            # else the kernel may have all of an answer, which is written then
            poll = await session.request(cluster.one.port, "GET", receive_buffer=4096)
            assert await poll.reader.read(1)  # of megabytes
            poll.reset()
        assert await numbers(session, cluster.one.port, 8) == list(range(8))


# ----------------------------------------------------------------- Redis goes away


def heard_from(client: Poller, addresses: set[str]) -> bool:
    """Whether its present session got ``back`` from everywhere: where it lives, and relayed."""
    return addresses <= {
        answer.upstream
        for answer in client.answers
        if answer.session == len(client.homes)
        and any(frame[3] == "back" for frame in answer.frames)
    }


@pytest.mark.parametrize("name", LAYERS)
async def test_redis_may_go_and_come_back(name: str, tmp_path: Path) -> None:
    """Direct sessions go on all the while; those behind nginx are well again by themselves."""
    port, topic = servers.free_port(), "room:redis"
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(servers.redis(tmp_path, port))
        url = f"redis://127.0.0.1:{port}/0"
        cluster = stack.enter_context(cluster_on(name, url, tmp_path))
        async with (
            pollers(cluster.nginx, topic, 3) as clients,
            pollers(cluster.one, topic, 1) as [direct],
            Client(cluster.two.url, "/polled") as publisher,
        ):
            await publisher.join(topic)

            redis.stop(signal.SIGKILL)
            loop = asyncio.get_running_loop()
            until, i = loop.time() + 2, 0
            while loop.time() < until:
                await direct.push(topic, "shout", {"i": i})
                assert await direct.ask(topic, "echo", {"i": i}) == ("ok", {"i": i})
                i += 1
            assert [p["i"] for p in direct.payloads("shout")] == list(range(i))

            stack.enter_context(servers.redis(tmp_path, port))
            everybody = [*clients, direct]
            recovered = asyncio.gather(
                *(c.until(partial(heard_from, c, cluster.addresses)) for c in clients),
                direct.until(lambda: bool(direct.payloads("back"))),
            )
            while not recovered.done():  # until every link is up again
                # what the layer does not take (a connection of its pool that Redis has closed)
                # has crashed the channel that sent it
                await publisher.join(topic)
                tell = {"topic": topic, "event": "back", "payload": {}}
                await publisher.push(topic, "tell", tell)
                await asyncio.wait({recovered}, timeout=0.2)
            await recovered
            await publisher.join(topic)
            sessions = [len(client.homes) for client in everybody]
            for i in range(500):
                await publisher.push(topic, "shout", {"after": i})
            for client in everybody:
                await client.until(lambda: {"after": 499} in client.payloads("shout"))
                assert await client.ask(topic, "ok") == ("ok", {})
                after = [p["after"] for p in client.payloads("shout") if "after" in p]
                assert after == list(range(500))
            assert [len(client.homes) for client in everybody] == sessions
            assert len(direct.homes) == 1


# ------------------------------------------------------------ a process is stopped


async def test_a_process_that_is_stopped_sends_its_clients_to_the_other(
    mortal: Cluster,
) -> None:
    """With SIGTERM, as a deployment does: the waiting polls of its sessions are answered 410."""
    one, two, _ = mortal
    session = RawSession("/slow")
    await session.open(one.port)
    join = ["1", "1", "bench:stopped", "phx_join", {}]
    assert await session.send(one.port, join) == {"status": 200}
    assert len((await session.poll(two.port))["messages"]) == 1
    relayed = await session.request(two.port, "GET", "&n=stopped")
    await logged("poll stopped waits", two)
    stopping = asyncio.create_task(asyncio.to_thread(one.stop))
    answer = await relayed.answer()
    await stopping
    assert answer["status"] == 410 and answer["token"] != session.token
    session.token = answer["token"]
    assert await session.send(two.port, join) == {"status": 200}
    assert len((await session.poll(two.port))["messages"]) == 1
    assert "Traceback" not in one.logged()
