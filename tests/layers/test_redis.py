"""The layer of Redis: what channels_redis' pub/sub layer does, beside it and together with it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import itertools
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.test import override_settings
from redis import Redis

from phx_protocol.layers import RedisLayer
from tests.support import servers

LAYERS: dict[str, Any] = {"channels_redis": RedisPubSubChannelLayer, "ours": RedisLayer}
PAIRS = [*itertools.permutations(LAYERS, 2)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"prefix": "other"},
    {"serializer_format": "json"},
    {"symmetric_encryption_keys": ["a" * 40, "b" * 40]},
]


@contextlib.asynccontextmanager
async def opened(name: str, url: str, **options: Any) -> AsyncIterator[Any]:
    layer = LAYERS[name](hosts=[url], **options)
    yield layer
    await layer.flush()


@pytest.fixture(params=LAYERS)
async def layer(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    """A layer; all its tests are passed by the one of channels_redis, too."""
    async with opened(request.param, redis_url) as layer:
        yield layer


@pytest.fixture
async def ours(redis_url: str) -> AsyncIterator[RedisLayer]:
    async with opened("ours", redis_url) as layer:
        yield layer


async def subscribers(url: str, channel: str, count: int) -> None:
    """Wait until so many connections are subscribed to `channel`: the other layer does not wait."""
    with Redis.from_url(url) as redis:
        while redis.pubsub_numsub(channel) != [(channel.encode(), count)]:
            await asyncio.sleep(0.01)


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 10)


async def nothing_more(layer: Any, group: str, channel: str) -> None:
    """A message that arrives next has overtaken none."""
    await layer.send(channel, {"type": "next"})
    assert await received(layer, channel) == {"type": "next"}


# ------------------------------------------------------------------- beside each other


async def test_a_message_to_a_channel_arrives_there(layer: Any) -> None:
    channel, other = await layer.new_channel(), await layer.new_channel("test.")
    assert channel.startswith("asgispecific.") and other.startswith("asgitest.")
    await layer.send(channel, {"type": "one", "of": ["a", 1, None, 2.5, b"\x00"]})
    await nothing_more(layer, "", other)
    assert await received(layer, channel) == {
        "type": "one",
        "of": ["a", 1, None, 2.5, b"\x00"],
    }


async def test_a_channel_that_has_a_name_is_opened_by_who_receives(
    layer: Any, redis_url: str
) -> None:
    receiving = asyncio.create_task(layer.receive("thumbnails"))
    await subscribers(redis_url, "thumbnails", 1)
    await layer.send("thumbnails", {"type": "make"})
    assert await receiving == {"type": "make"}


async def test_messages_of_one_sender_arrive_in_order(layer: Any) -> None:
    channel = await layer.new_channel()
    for n in range(500):
        await layer.send(channel, {"n": n})
    assert [(await received(layer, channel))["n"] for _ in range(500)] == [*range(500)]


async def test_a_message_to_a_group_arrives_in_each_of_its_channels(layer: Any) -> None:
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels[:2]:
        await layer.group_add("room", channel)
        await layer.group_add("room", channel)  # twice is as good as once
    await layer.group_send("room", {"type": "hello", "to": []})
    found = [await received(layer, channel) for channel in channels[:2]]
    assert found == 2 * [{"type": "hello", "to": []}]
    assert found[0] is not found[1] and found[0]["to"] is not found[1]["to"]
    for channel in channels:
        await nothing_more(layer, "room", channel)


async def test_a_channel_that_left_a_group_gets_nothing_more(layer: Any) -> None:
    stays, leaves = await layer.new_channel(), await layer.new_channel()
    for channel in (stays, leaves):
        await layer.group_add("room", channel)
    await layer.group_discard("room", leaves)
    await layer.group_discard("room", leaves)
    await layer.group_discard("nobody's", leaves)
    await layer.group_send("room", {"type": "hello"})
    assert await received(layer, stays) == {"type": "hello"}
    await nothing_more(layer, "room", leaves)
    await layer.group_discard("room", stays)
    await layer.group_send("room", {"type": "to nobody"})
    await nothing_more(layer, "room", stays)
    await layer.group_add("room", stays)
    await asyncio.sleep(0)
    await layer.group_send("room", {"type": "again"})
    assert await received(layer, stays) == {"type": "again"}


async def test_only_a_channel_of_this_process_joins_a_group(layer: Any) -> None:
    with pytest.raises(RuntimeError, match="exist in-process"):
        await layer.group_add("room", "asgispecific.elsewhere")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime.datetime(2026, 1, 1), TypeError),
        (Decimal(1), TypeError),
        (2**64, OverflowError),
        (object(), TypeError),
    ],
)
async def test_what_msgpack_does_not_know_is_refused(
    layer: Any, value: Any, error: type[Exception]
) -> None:
    channel = await layer.new_channel()
    with pytest.raises(error):
        await layer.send(channel, {"value": value})
    with pytest.raises(error):
        await layer.group_send("room", {"value": value})
    await nothing_more(layer, "", channel)


async def test_what_cannot_be_read_is_an_error_for_who_receives(layer: Any) -> None:
    channel = await layer.new_channel()
    await layer.send(channel, {"a key": {1: "of no text"}})
    with pytest.raises(ValueError, match="int is not allowed"):
        await received(layer, channel)
    await nothing_more(layer, "", channel)


async def test_a_large_message_arrives_whole(layer: Any) -> None:
    channel = await layer.new_channel()
    data = os.urandom(6_000_000)
    await layer.send(channel, {"data": data})
    assert (await received(layer, channel))["data"] == data


async def test_a_receiver_that_is_cancelled_ends_its_channel(
    layer: Any, redis_url: str
) -> None:
    channel = await layer.new_channel()
    await subscribers(redis_url, channel, 1)
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await subscribers(redis_url, channel, 0)


async def test_a_flush_makes_it_like_new(layer: Any, redis_url: str) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.flush()
    await subscribers(redis_url, "asgi__group__room", 0)
    with pytest.raises(RuntimeError):
        await layer.group_add("room", channel)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await subscribers(redis_url, "asgi__group__room", 1)
    await layer.group_send("room", {"type": "hello"})
    assert await received(layer, channel) == {"type": "hello"}


@pytest.mark.parametrize("name", LAYERS)
async def test_two_prefixes_are_two_layers(name: str, redis_url: str) -> None:
    async with opened(name, redis_url) as one, opened(
        name, redis_url, prefix="two"
    ) as two:
        channels = [await layer.new_channel() for layer in (one, two)]
        for layer, channel in zip((one, two), channels):
            await layer.group_add("room", channel)
        await subscribers(redis_url, "two__group__room", 1)
        await one.group_send("room", {"type": "one"})
        await two.group_send("room", {"type": "two"})
        assert await received(one, channels[0]) == {"type": "one"}
        assert await received(two, channels[1]) == {"type": "two"}


@pytest.mark.parametrize(
    "bad", [{"hosts": "redis://127.0.0.1"}, {"serializer_format": "x"}]
)
def test_bad_options_are_refused_when_the_layer_is_made(bad: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        RedisLayer(**bad)


def test_an_unknown_option_is_refused_one_of_another_layer_is_not() -> None:
    RedisLayer(capacity=1, expiry=2, group_expiry=3, channel_capacity={})
    with pytest.raises(TypeError, match="no option host, port"):
        RedisLayer(host="localhost", port=1)


# ----------------------------------------------------------------- with each other


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("options", OPTIONS)
async def test_both_layers_work_together(
    one: str, other: str, options: dict[str, Any], redis_url: str
) -> None:
    async with opened(one, redis_url, **options) as here, opened(
        other, redis_url, **options
    ) as there:
        channel = await there.new_channel()
        await there.group_add("room", channel)
        prefix = options.get("prefix", "asgi")
        await subscribers(redis_url, channel, 1)
        await subscribers(redis_url, f"{prefix}__group__room", 1)
        for n in range(50):
            await here.send(channel, {"n": n, "text": "ä"})
            await here.group_send("room", {"n": n, "list": [1, {"a": None}]})
        for n in range(50):
            assert await received(there, channel) == {"n": n, "text": "ä"}
            assert await received(there, channel) == {"n": n, "list": [1, {"a": None}]}


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_both_layers_spread_names_over_servers_alike(
    one: str, other: str, redis_url: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        more = [stack.enter_context(servers.redis(tmp_path)) for _ in range(2)]
        hosts = [redis_url, *(("127.0.0.1", server.port) for server in more)]
        here, there = LAYERS[one](hosts=hosts), LAYERS[other](hosts=hosts)
        channel = await there.new_channel()
        for n in range(40):
            await there.group_add(f"room{n}", channel)
        for _ in range(3):  # its subscriptions are on the way
            await asyncio.sleep(0.1)
        for n in range(40):
            await here.group_send(f"room{n}", {"n": n})
        found = sorted([(await received(there, channel))["n"] for _ in range(40)])
        assert found == [*range(40)]
        for server in more:
            with Redis(port=server.port) as redis:
                assert len(redis.pubsub_channels("asgi__group__*")) > 3
        await here.flush()
        await there.flush()


# ------------------------------------------------------------------------ ours alone


async def test_django_channels_makes_it_from_the_settings(redis_url: str) -> None:
    backend = {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": [redis_url]},
    }
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        layer = get_channel_layer()
        assert isinstance(layer, RedisLayer)
        assert layer.extensions == ["groups", "flush"]


async def test_a_group_is_joined_when_redis_says_so(
    ours: RedisLayer, redis_url: str
) -> None:
    """So no message of another process is lost that is sent after that."""
    channel = await ours.new_channel()
    with Redis.from_url(redis_url) as other:
        for n in range(300):
            await ours.group_add(f"room{n}", channel)
            data = ours.serialize({"n": n})
            assert other.publish(f"asgi__group__room{n}", data) == 1
            assert (await received(ours, channel))["n"] == n


async def test_thousands_of_groups_are_one_round_trip(
    ours: RedisLayer, redis_url: str
) -> None:
    channel = await ours.new_channel()
    with Redis.from_url(redis_url) as redis:
        redis.config_resetstat()
        await asyncio.gather(*(ours.group_add(f"g{n}", channel) for n in range(3000)))
        calls = redis.info("commandstats")["cmdstat_subscribe"]["calls"]
    assert calls == 3


async def test_what_is_asked_in_one_turn_leaves_in_one_write(
    ours: RedisLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await ours.new_channel()
    connection = ours._here().shards[0]._connection
    assert connection is not None
    writes = []
    write = connection.write
    monkeypatch.setattr(
        connection, "write", lambda c: (writes.append(len(c)), write(c))
    )
    sent = (ours.send(channel, {"n": n}) for n in range(100))
    await asyncio.gather(*sent, ours.group_add("g", channel))
    assert writes == [101]


def test_a_process_with_two_event_loops_has_two_connections(redis_url: str) -> None:
    layer = RedisLayer([redis_url])
    ready, found = threading.Barrier(2), []

    async def live(name: str) -> None:
        channel = await layer.new_channel()
        await layer.group_add("both", channel)
        await asyncio.to_thread(ready.wait, 10)
        await layer.group_send("both", {"from": name})
        got = [(await received(layer, channel))["from"] for _ in range(2)]
        found.append(sorted(got))

    threads = [threading.Thread(target=asyncio.run, args=[live(n)]) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["a", "b"], ["a", "b"]]
    assert not layer._loops


def test_the_end_of_an_event_loop_closes_its_connections(redis_url: str) -> None:
    async def use() -> None:
        layer = RedisLayer([redis_url])
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "hello"})
        await layer.receive(channel)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(use())
        gc.collect()


WORKER = """
import asyncio, logging, os, sys
logging.getLogger("asyncio").setLevel("ERROR")  # not that a step was slow on a busy machine
from asgiref.sync import async_to_sync
from redis import Redis
from phx_protocol.layers import RedisLayer
url, count = sys.argv[1], int(sys.argv[2])
layer = RedisLayer([url])
client = Redis.from_url(url)
def made():
    return client.info("stats")["total_connections_received"]
send = async_to_sync(layer.group_send)
send("room", {"n": "first"})
before = made()
for n in range(count):
    send("room", {"n": n})
asyncio.run(layer.group_send("room", {"n": "run"}))
assert made() == before, made() - before
child = os.fork()
if not child:
    client = Redis.from_url(url)
    send("room", {"n": "child"})
    before = made()
    for n in range(100):
        send("room", {"n": n})
    assert made() == before
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
send("room", {"n": "last"})
"""


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.big)])
async def test_a_worker_sends_without_a_connection_for_each_call(
    count: int, ours: RedisLayer, redis_url: str
) -> None:
    channel = await ours.new_channel()
    await ours.group_add("room", channel)
    worker = await servers.start_async(
        sys.executable,
        *("-X", "dev", "-W", "error", "-c", WORKER, redis_url, str(count)),
        cwd=servers.ROOT,
        stderr=subprocess.PIPE,
    )
    expected = ["first", *range(count), "run", "child", *range(100), "last"]
    for n in expected:
        assert (await received(ours, channel))["n"] == n
    _, errors = await worker.communicate()
    assert worker.returncode == 0 and not errors, errors.decode()


def test_without_channels_a_loop_keeps_the_order_when_it_gets_one(
    redis_url: str,
) -> None:
    """Its messages went over the loop in a thread before, and over its own connection after."""
    layer = RedisLayer([redis_url])

    async def live() -> list[int]:
        receiver = RedisLayer([redis_url])
        there = await receiver.new_channel()
        sending = [
            asyncio.ensure_future(layer.send(there, {"n": n})) for n in range(50)
        ]
        await asyncio.sleep(0)
        await layer.new_channel()
        for n in range(50, 100):
            await layer.send(there, {"n": n})
        await asyncio.gather(*sending)
        return [(await received(receiver, there))["n"] for _ in range(100)]

    assert asyncio.run(live()) == [*range(100)]


def test_synchronous_code_sends_from_any_thread(redis_url: str) -> None:
    layer = RedisLayer([redis_url])

    async def live() -> list[int]:
        channel = await layer.new_channel()
        await asyncio.to_thread(send, channel)
        return [(await received(layer, channel))["n"] for _ in range(20)]

    def send(channel: str) -> None:
        for n in range(20):
            async_to_sync(layer.send)(channel, {"n": n})

    assert asyncio.run(live()) == [*range(20)]
