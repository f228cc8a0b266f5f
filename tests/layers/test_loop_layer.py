"""The channels of one event loop: who gets a message, and who hears of the connections."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from phx_protocol.layers import RedisLayer
from tests.layers.heard import Heard, listening
from tests.support import servers


async def test_what_is_published_does_not_come_back_to_its_sender(
    redis_url: str,
) -> None:
    """But to the others in its process, and to all in other processes."""
    async with (
        listening(redis_url) as (layer, heard),
        listening(redis_url) as (_, elsewhere),
    ):
        beside, ordinary = Heard(), await layer.new_channel()
        assert heard.channel is not None
        channel = await layer.new_channel()
        layer.deliver_to(channel, beside)
        for name in (channel, ordinary):
            await layer.group_add("room", name)
        answers: list[Any] = []
        for n in range(3):
            heard.channel.publish("room", {"n": n}, answers.append)
        await layer.group_send("room", {"n": "for all"})
        everything = [*({"n": n} for n in range(3)), {"n": "for all"}]
        for other in (beside, elsewhere):
            await other.until(lambda: len(other.messages) == 4)
            assert other.messages == everything
        assert [await layer.receive(ordinary) for _ in range(4)] == everything
        assert heard.messages == [{"n": "for all"}]
        assert answers == [2, 2, 2]


async def test_a_listener_may_leave_the_group_while_it_takes_a_message(
    redis_url: str,
) -> None:
    layer = RedisLayer([redis_url])
    channels = [await layer.new_channel() for _ in range(3)]

    class Leaving(Heard):
        def take(self, message: Any) -> None:
            super().take(message)
            for channel in channels:
                layer._here().group_discard("room", channel)

    heard = [Leaving() for _ in channels]
    for channel, one in zip(channels, heard):
        layer.deliver_to(channel, one)
        await layer.group_add("room", channel)
    await layer.group_send("room", {"n": 1})
    for one in heard:
        await one.until(lambda: one.messages)
    await layer.flush()


async def test_one_of_two_servers_that_is_away_is_one_outage(
    redis_url: str, tmp_path: Path
) -> None:
    with servers.redis(tmp_path) as server:
        at = ("127.0.0.1", server.port)
        async with listening(redis_url, at) as (layer, heard):
            channel = await layer.new_channel()
            await asyncio.gather(*(layer.group_add(f"g{n}", channel) for n in range(9)))
            async with (
                Redis.from_url(redis_url) as one,
                Redis(port=server.port) as other,
            ):
                for redis in (one, other):
                    await redis.client_kill_filter(_type="pubsub")
            await heard.until(lambda: heard.returns)
            assert len(heard.errors) == 1 and heard.returns == 1
            server.stop(how=signal.SIGKILL)
            await heard.until(lambda: len(heard.errors) == 2)
            results = await asyncio.gather(
                *(layer.group_send(f"g{n}", {"n": n}) for n in range(9)),
                return_exceptions=True,
            )
            kinds = {type(result) for result in results}
            assert kinds == {type(None), ConnectionError} and heard.returns == 1


async def test_a_join_that_fails_is_no_join(redis_url: str, tmp_path: Path) -> None:
    with servers.redis(tmp_path) as server:
        async with listening(("127.0.0.1", server.port)) as (layer, heard):
            channel = await layer.new_channel()
            server.process.send_signal(signal.SIGSTOP)
            joining = asyncio.ensure_future(layer.group_add("new", channel))
            await asyncio.sleep(0)
            server.stop(how=signal.SIGKILL)
            with pytest.raises(ConnectionError):
                await joining
            with servers.redis(tmp_path, server.port) as again:
                await heard.until(lambda: heard.returns)
                async with Redis(port=again.port) as redis:
                    assert await redis.pubsub_channels("*new") == []
