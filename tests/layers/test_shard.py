"""A connection that is lost, and how it comes back: whatever happens to Redis, or on the way there."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol.layers import RedisLayer, connection, shard
from phx_protocol.layers.shard import Shard
from tests.layers.heard import listening
from tests.support import servers
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        yield proxy


def shard_of(layer: RedisLayer) -> Shard:
    [only] = layer._here().shards
    return only


async def until(wanted: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not wanted():
            await asyncio.sleep(0.01)


async def subscribed(redis: Redis, count: int, group: str = "room") -> None:
    while (await redis.pubsub_numsub(f"asgi__group__{group}"))[0][1] != count:
        await asyncio.sleep(0.01)


async def sends_again(layer: RedisLayer, message: dict[str, Any]) -> None:
    """Send `message` as soon as that works."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await layer.group_send("room", message)
            except (ConnectionError, ResponseError):
                await asyncio.sleep(0.02)


# ------------------------------------------------------------- connections that end


async def test_a_connection_that_redis_ends_is_told_and_made_again(
    redis: Redis, redis_url: str
) -> None:
    async with listening(redis_url) as (layer, heard), listening(redis_url) as (o, _):
        channel = await o.new_channel()
        for n in range(2500):  # more than fit into one command
            await o.group_add(f"room{n}", channel)
        await redis.client_kill_filter(_type="pubsub")
        await heard.until(lambda: heard.returns)
        assert "Redis closed the connection" in heard.errors[0]
        await sends_again(layer, {"n": 1})
        await heard.until(lambda: heard.messages == [{"n": 1}])
        await until(lambda: not o._here()._cut)
        assert (await redis.pubsub_numsub("asgi__group__room2499"))[0][1] == 1


async def test_ordinary_channels_get_the_messages_that_were_asked_for(
    redis: Redis, redis_url: str
) -> None:
    names = {"on_disconnect": "redis.lost", "on_reconnect": "redis.back"}
    layer = RedisLayer([redis_url], **names)
    channel = await layer.new_channel()
    await redis.client_kill_filter(_type="pubsub")
    found = [await asyncio.wait_for(layer.receive(channel), 10) for _ in range(2)]
    assert found == [{"type": "redis.lost"}, {"type": "redis.back"}]
    await layer.flush()


async def test_without_a_listener_the_log_says_it_once_each_way(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer = RedisLayer([redis_url])
    channel = await layer.new_channel()
    await redis.client_kill_filter(_type="pubsub")
    await until(lambda: len(caplog.records) == 2)
    assert "is lost" in caplog.messages[0] and "works again" in caplog.messages[1]
    await layer.send(channel, {"n": 1})
    assert await asyncio.wait_for(layer.receive(channel), 10) == {"n": 1}
    await layer.flush()


async def test_what_may_have_been_published_is_not_published_again(
    redis_url: str, proxy: TcpProxy
) -> None:
    async with listening(redis_url) as (_, heard):
        layer = RedisLayer([f"redis://127.0.0.1:{proxy.port}/0"])
        await layer.new_channel()
        proxy.hold_answers()
        sent = [
            asyncio.ensure_future(layer.group_send("room", {"n": n})) for n in range(3)
        ]
        await heard.until(lambda: len(heard.messages) == 3)
        await proxy.drop()
        proxy.pass_answers()
        for sending in sent:
            with pytest.raises(ConnectionError, match="closed the connection"):
                await sending
        await sends_again(layer, {"n": 3})
        await heard.until(lambda: len(heard.messages) > 3)
        assert [message["n"] for message in heard.messages] == [0, 1, 2, 3]
        await layer.flush()


async def test_while_redis_is_away_senders_and_joiners_learn_it_at_once(
    redis_url: str, proxy: TcpProxy
) -> None:
    async with listening(f"redis://127.0.0.1:{proxy.port}/0") as (layer, heard):
        channel = await layer.new_channel()
        await proxy.cut()
        await heard.until(lambda: heard.errors)
        with pytest.raises(ConnectionError):  # it waits for the first try
            await layer.group_send("room", {"n": 0})
        async with asyncio.timeout(60):  # far less than as many tries to connect
            for _ in range(1000):
                with pytest.raises(ConnectionError):
                    await layer.group_send("room", {"n": 0})
                with pytest.raises(ConnectionError):
                    await layer.group_add("other", channel)
        await proxy.mend()
        await heard.until(lambda: heard.returns)
        await layer.group_add("other", channel)
        await layer.group_send("room", {"n": 1})
        await heard.until(lambda: heard.messages == [{"n": 1}])
        assert b"asgi__group__other" in shard_of(layer).subscriptions._wanted


async def test_a_sender_without_channels_connects_when_it_sends(
    redis_url: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "LATEST", 0.1)
    alone = shard_of(RedisLayer([f"redis://127.0.0.1:{proxy.port}/0"]))
    answers: list[Any] = []
    alone.publish(b"a", b"1", answers.append)
    await until(lambda: answers == [0])
    await proxy.cut()
    await until(lambda: alone._connection is None)
    tries = proxy.made
    await asyncio.sleep(0.3)
    assert proxy.made == tries and alone._connecting is None
    alone.publish(b"a", b"2", answers.append)
    await until(lambda: len(answers) == 2)
    assert isinstance(answers[1], ConnectionError)
    await proxy.mend()
    await asyncio.sleep(0.1)
    alone.publish(b"a", b"3", answers.append)
    await until(lambda: answers[2:] == [0])
    await alone.close()


async def test_who_sends_long_after_a_failure_does_not_wait_for_it_once_more(
    proxy: TcpProxy,
) -> None:
    alone = shard_of(RedisLayer([f"redis://127.0.0.1:{proxy.port}/0"]))
    answers: list[Any] = []
    await proxy.cut()
    alone.publish(b"a", b"1", answers.append)
    await until(lambda: answers and alone._connecting is None)
    await proxy.mend()
    alone._delay = 1000  # it grew with each failure
    alone.publish(b"a", b"2", answers.append)
    await until(lambda: answers[1:] == [0])
    await alone.close()


async def test_a_silent_connection_is_given_up(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connection.INTERVAL * connection.SILENT <= 15
    monkeypatch.setattr(connection, "INTERVAL", 0.1)
    async with listening(f"redis://127.0.0.1:{proxy.port}/0") as (layer, heard):
        await asyncio.sleep(0.5)
        assert not heard.errors  # a quiet one is not silent: it answers
        proxy.hold_answers()
        sending = asyncio.ensure_future(layer.group_send("room", {"n": 0}))
        await heard.until(lambda: heard.errors)
        assert "has sent nothing for" in heard.errors[0]
        with pytest.raises(ConnectionError, match="has sent nothing for"):
            await sending
        proxy.pass_answers()
        await heard.until(lambda: heard.returns)


async def test_a_redis_that_is_killed_and_comes_back_empty(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as server:
        address = ("127.0.0.1", server.port)
        async with listening(address) as (layer, heard), listening(address) as (o, b):
            server.stop(how=signal.SIGKILL)
            await heard.until(lambda: heard.errors)
            with pytest.raises(ConnectionError):
                await layer.group_send("room", {"n": 0})
            with servers.redis(tmp_path, server.port):
                await heard.until(lambda: heard.returns)
                await b.until(lambda: b.returns)
                await o.group_send("room", {"n": 1})
                await heard.until(lambda: heard.messages == [{"n": 1}])
                assert len(heard.errors) == 1


async def test_a_redis_that_is_paused_for_a_moment_loses_nothing(
    tmp_path: Path,
) -> None:
    with servers.redis(tmp_path) as server:
        async with listening(("127.0.0.1", server.port)) as (layer, heard):
            server.process.send_signal(signal.SIGSTOP)
            sending = [
                asyncio.ensure_future(layer.group_send("room", {"n": n}))
                for n in range(100)
            ]
            channel = await asyncio.wait_for(joining_while(server, layer), 20)
            await asyncio.gather(*sending)
            await layer.send(channel, {"n": "last"})
            assert await layer.receive(channel) == {"n": "last"}
            await heard.until(lambda: len(heard.messages) == 100)
            assert [message["n"] for message in heard.messages] == [*range(100)]
            assert not heard.errors


async def joining_while(server: servers.Server, layer: RedisLayer) -> str:
    """Open a channel on a server that is paused; it goes on when nothing has come back for a while."""
    opening = asyncio.ensure_future(layer.new_channel())
    await asyncio.wait({opening}, timeout=0.5)
    assert not opening.done()
    server.process.send_signal(signal.SIGCONT)
    return await opening


async def test_a_process_that_redis_gives_up_because_it_is_behind_comes_back(
    tmp_path: Path,
) -> None:
    limit = "pubsub 1mb 0 0"
    with servers.redis(
        tmp_path, None, "--client-output-buffer-limit", *limit.split()
    ) as server:
        async with (
            TcpProxy(server.port) as proxy,
            listening(f"redis://127.0.0.1:{proxy.port}/0") as (_, behind),
            listening(("127.0.0.1", server.port)) as (layer, heard),
        ):
            proxy.hold_answers()
            data = {"x": 100_000 * "x"}
            while (
                not behind.errors
            ):  # what the proxy and the system hold is not with Redis
                await layer.group_send("room", data)
                if "overcoming of output buffer limits" in server.logged():
                    proxy.pass_answers()
            await behind.until(lambda: behind.returns)
            await layer.group_send("room", {"n": "after"})
            await behind.until(lambda: behind.messages[-1:] == [{"n": "after"}])
            assert not heard.errors


# ------------------------------------------------------------------------- its role


async def test_a_primary_that_becomes_a_replica_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes what is published and says nothing: but it does not pass it on."""
    monkeypatch.setattr(connection, "INTERVAL", 0.1)
    with servers.redis(tmp_path) as old, servers.redis(tmp_path) as new:
        async with (
            TcpProxy(old.port) as address,
            listening(f"redis://127.0.0.1:{address.port}/0") as (layer, heard),
            listening(("127.0.0.1", new.port)) as (_, there),
            Redis(port=old.port) as demoted,
        ):
            loading = asyncio.create_task(load(layer))
            await heard.until(lambda: len(heard.messages) > 50)
            await demoted.replicaof("127.0.0.1", new.port)
            await heard.until(lambda: heard.errors)
            assert "not a primary" in heard.errors[0] and not heard.returns
            address.target = new.port
            await heard.until(lambda: heard.returns)
            await there.until(lambda: len(there.messages) > 50)
            loading.cancel()


async def load(layer: RedisLayer) -> None:
    for n in itertools.count():
        try:
            await layer.group_send("room", {"n": n})
        except ConnectionError:
            pass
        await asyncio.sleep(0.001)


async def test_it_looks_at_once_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "INTERVAL", 1000)
    with servers.redis(tmp_path) as server:
        async with (
            listening(("127.0.0.1", server.port)) as (layer, heard),
            Redis(port=server.port) as demoted,
        ):
            await demoted.replicaof("127.0.0.1", 1)
            assert heard.channel is not None
            heard.channel.look_now()
            await heard.until(lambda: heard.errors)
            await demoted.replicaof("NO", "ONE")
            await heard.until(lambda: heard.returns)


# ---------------------------------------------------------------------- what Redis refuses


async def test_a_group_that_redis_refuses_spoils_no_other(
    redis: Redis, redis_url: str
) -> None:
    await redis.acl_setuser(
        "some", enabled=True, reset=True, passwords=["+p:@/% x"], commands=["+@all"]
    )
    await redis.execute_command("ACL", "SETUSER", "some", "&asgi*ok*", "&asgispec*")
    at = redis_url.split("@")[-1].removeprefix("redis://").split("/")[0]
    host, port = at.split(":")
    user = {"username": "some", "password": "p:@/% x", "host": host, "port": port}
    async with listening(user, group="ok") as (layer, heard):
        channel = await layer.new_channel()
        groups = ["ok1", "secret", "ok2"]
        added = await asyncio.gather(
            *(layer.group_add(group, channel) for group in groups),
            return_exceptions=True,
        )
        assert [type(error) for error in added] == [
            type(None),
            ResponseError,
            type(None),
        ]
        assert "NOPERM" in str(added[1])
        with pytest.raises(ResponseError, match="NOPERM"):
            await layer.group_send("secret", {"n": 0})
        await layer.group_send("ok", {"n": 1})
        await heard.until(lambda: heard.messages == [{"n": 1}])
        assert not heard.errors
        # the user's rights end, with its connections, and come back
        await redis.acl_deluser("some")
        await heard.until(lambda: heard.errors)
        with pytest.raises((ConnectionError, ResponseError)):
            await layer.group_send("ok", {"n": 2})
        await redis.acl_setuser(
            "some",
            enabled=True,
            passwords=["+p:@/% x"],
            commands=["+@all"],
            channels=["*"],
        )
        await heard.until(lambda: heard.returns)
        await redis.acl_deluser("some")


async def test_a_redis_with_too_many_clients_is_tried_again(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as server:
        async with (
            Redis(port=server.port) as redis,
            listening(("127.0.0.1", server.port)) as (layer, heard),
        ):
            await redis.config_set("maxclients", 1)
            await redis.client_kill_filter(_type="pubsub")
            await heard.until(lambda: heard.errors)
            with pytest.raises((ConnectionError, ResponseError)):
                await layer.group_send("room", {"n": 0})
            await redis.config_set("maxclients", 100)
            await heard.until(lambda: heard.returns)
            await layer.group_send("room", {"n": 1})
            await heard.until(lambda: heard.messages == [{"n": 1}])


# -------------------------------------------------------------------- latency, amounts


async def test_a_slow_line_does_not_limit_the_rate(proxy: TcpProxy) -> None:
    """Messages that are sent together do not wait for the answers to one another."""
    proxy.delay = 0.005
    async with listening(f"redis://127.0.0.1:{proxy.port}/0") as (layer, heard):
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n in range(50):
            await layer.group_send("room", {"n": n})
        one_by_one = loop.time() - began
        began = loop.time()
        sending = (layer.group_send("room", {"n": n}) for n in range(50, 1000))
        await asyncio.gather(*sending)
        assert loop.time() - began < one_by_one
        await heard.until(lambda: len(heard.messages) == 1000)
        assert [message["n"] for message in heard.messages] == [*range(1000)]


async def test_a_join_is_answered_when_messages_arrive_however_far_redis_is(
    redis_url: str, proxy: TcpProxy
) -> None:
    proxy.delay = 0.001
    async with (
        listening(f"redis://127.0.0.1:{proxy.port}/0") as (far, heard),
        listening(redis_url) as (near, _),
    ):
        assert heard.channel is not None
        for n in range(1000):
            await far.group_add(f"new{n}", heard.channel.name)
            await near.group_send(f"new{n}", {"n": n})
        await heard.until(lambda: len(heard.messages) == 1000)


async def test_what_is_under_way_is_bounded_and_senders_wait(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "IN_FLIGHT", 10_000)
    monkeypatch.setattr(shard, "LIMIT", 50_000)
    async with listening(f"redis://127.0.0.1:{proxy.port}/0") as (layer, heard):
        channel = heard.channel
        assert channel is not None and not channel.is_full
        proxy.hold_answers()
        sent = [
            asyncio.ensure_future(layer.group_send("room", {"n": n, "x": 1000 * "x"}))
            for n in range(100)
        ]
        room = asyncio.ensure_future(channel.room())
        refused, _ = await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
        assert all("bytes wait" in str(one.exception()) for one in refused)
        one = shard_of(layer)
        assert one._connection is not None
        assert 10_000 <= one._connection.in_flight < 12_000
        assert channel.is_full and not room.done()
        proxy.pass_answers()
        await room
        took = len(sent) - len(refused)
        await asyncio.wait(sent)
        await heard.until(lambda: len(heard.messages) == took)
        assert [message["n"] for message in heard.messages] == [*range(took)]
        assert one._queued == 0 and one._connection.in_flight == 0


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.big)])
async def test_connections_that_are_killed_at_random_change_no_order(
    seconds: float, redis: Redis, redis_url: str
) -> None:
    """Each sender knows what may not have arrived; nothing comes twice."""
    failed: set[int] = set()
    async with (
        listening(redis_url) as (one, _),
        listening(redis_url) as (two, heard),
    ):
        numbers = itertools.count()
        sending: list[asyncio.Task[None]] = []

        async def send(n: int) -> None:
            try:
                await one.group_send("room", {"n": n})
            except ConnectionError:
                failed.add(n)

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(random.randrange(40)):
                sending.append(asyncio.create_task(send(next(numbers))))
            if random.random() < 0.05:
                clients = await redis.client_list()
                subscribed = [c["id"] for c in clients if int(c["sub"])]
                for victim in subscribed[: random.randrange(3)]:
                    await redis.client_kill_filter(_id=victim)
            await asyncio.sleep(0.005)
        await asyncio.gather(*sending)
        await until(lambda: not two._here()._cut and not one._here()._cut)
        last = next(numbers)
        await sends_again(one, {"n": last})
        await heard.until(lambda: heard.messages[-1]["n"] == last)
        found = [message["n"] for message in heard.messages]
        assert found == sorted(set(found)) and heard.returns
        assert len(found) > len(sending) / 3 and failed < {*range(last)}
