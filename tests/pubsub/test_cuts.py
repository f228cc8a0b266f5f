"""A subscription that Redis ends: what was lost is said, and what was kept is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings
from msgspec import Raw
from redis.asyncio import Redis

from phx_protocol import History, Socket, signals
from phx_protocol.node.node import Node, get_node
from phx_protocol.pubsub.message import group_name
from phx_protocol.socket.routes import history_of
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from tests.support.nodes import LAYERS
from tests.support.rooms import OpenRoom


class NewsChannel(OpenRoom):
    history = History()


class NewsSocket(Socket):
    channels = {"news:*": NewsChannel}


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Node]:
    """Another process on the same layer."""
    config = {"hosts": [redis_url], "prefix": "cuts"}
    backend = {"BACKEND": LAYERS["pubsub"], "CONFIG": config}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        node = Node()
        yield node
        await node.close()
        await get_node().close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url)
    yield redis
    await redis.aclose()


async def test_a_subscription_that_redis_ends_sends_the_signals(
    other: Node, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[str] = []
    recovered = asyncio.Event()

    def failed(error: Exception, **kwargs: Any) -> None:
        errors.append(str(error))

    def works(**kwargs: Any) -> None:
        recovered.set()

    signals.layer_failed.connect(failed)
    signals.layer_recovered.connect(works)
    try:
        assert await other.address()
        await redis.client_kill_filter(_type="pubsub")
        await asyncio.wait_for(recovered.wait(), 10)
    finally:
        signals.layer_failed.disconnect(failed)
        signals.layer_recovered.disconnect(works)
    assert (
        "ended the subscription" in errors[0]
        and "ended the subscription" in caplog.text
    )
    assert other.link.outage.failures == 1 and not other.link.is_failing


async def test_a_kept_broadcast_that_was_lost_so_is_read_at_once(
    other: Node, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await connect(NewsSocket)
    news = await socket.join("news:1")
    shard = other.link.layer._get_layer()._shards[0]
    publish = shard.publish

    async def cut_and_publish(channel: str, message: Any) -> None:
        if channel.endswith(group_name("news:1")):
            await redis.client_kill_filter(_type="pubsub")
        await publish(channel, message)

    for n in range(3):
        if n == 1:
            monkeypatch.setattr(shard, "publish", cut_and_publish)
        payload = Raw(b'{"n":%d}' % n)
        await other.pubsub.publish(
            Broadcast("news:1", "event", payload), history_of("news:1")
        )
        await news.assert_push("event", {"n": n})
    await socket.close()
