"""A channel with a listener: each message as it arrives, and sending without waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from phx_protocol.layers import RedisLayer, shard
from tests.layers.heard import Heard, listening


async def test_a_listener_takes_the_place_of_receive(redis_url: str) -> None:
    async with listening(redis_url) as (layer, heard):
        assert heard.channel is not None
        name = heard.channel.name
        with pytest.raises(RuntimeError, match="go to a listener"):
            await layer.receive(name)
        with pytest.raises(RuntimeError, match="exist in-process"):
            layer.deliver_to("asgispecific.elsewhere", heard)
        await layer.send(name, {"n": 1})
        await heard.until(lambda: heard.messages)
        heard.channel.close()
        await layer.send(name, {"n": 2})
        await layer.group_send("room", {"n": 3})
        await layer.new_channel()  # behind them
        assert heard.messages == [{"n": 1}]


async def test_a_message_that_cannot_be_read_is_ignored_and_logged(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(redis_url) as (layer, heard):
        with Redis.from_url(redis_url) as redis:
            redis.publish("asgi__group__room", b"\xc1 is nothing")
        await layer.group_send("room", {"n": 1})
        await heard.until(lambda: heard.messages)
        assert heard.messages == [{"n": 1}] and not heard.errors
    assert "was ignored" in caplog.text


async def test_a_listener_that_fails_fails_for_that_message_only(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Heard):
        def take(self, message: Any) -> None:
            super().take(message)
            raise RuntimeError(message["n"])

    broken, layer = Broken(), RedisLayer([redis_url])
    channel = await layer.new_channel()
    layer.deliver_to(channel, broken)
    for n in range(2):
        await layer.send(channel, {"n": n})
    await broken.until(lambda: len(broken.messages) == 2)
    assert "RuntimeError: 0" in caplog.text and not broken.errors
    await layer.flush()


async def test_a_message_that_cannot_be_serialized_is_refused_at_once(
    redis_url: str,
) -> None:
    async with listening(redis_url) as (layer, heard):
        assert heard.channel is not None
        with pytest.raises(TypeError):
            heard.channel.publish("room", {"n": object()}, print)


async def test_groups_are_joined_together_or_not_at_all(redis_url: str) -> None:
    async with listening(redis_url) as (layer, heard), listening(redis_url) as (o, _):
        channel = heard.channel
        assert channel is not None
        await channel.groups_add(f"g{n}" for n in range(50))
        await asyncio.gather(*(o.group_send(f"g{n}", {"n": n}) for n in range(50)))
        await heard.until(lambda: len(heard.messages) == 50)
        channel.group_discard("g1")
        await o.group_send("g1", {"n": "nobody"})
        with Redis.from_url(redis_url) as redis:
            joining = asyncio.ensure_future(channel.groups_add(["new", "newer"]))
            await asyncio.sleep(0)
            redis.client_kill_filter(_type="pubsub")  # before that is sent
            with pytest.raises(ConnectionError):
                await joining
            await heard.until(lambda: heard.returns)
            assert redis.pubsub_channels("*new*") == []
        assert len(heard.messages) == 50


async def test_it_is_full_while_much_has_no_answer(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "IN_FLIGHT", 1000)
    async with listening(redis_url) as (layer, heard):
        channel, answers = heard.channel, []
        assert channel is not None and not channel.is_full
        for _ in range(3):
            channel.publish("room", {"x": 1000 * "x"}, answers.append)
        assert channel.is_full
        await channel.room()
        assert not channel.is_full and answers
