"""The channels of one event loop: who gets a message, and who hears of the connections."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from phx_protocol.layers import RedisLayer, shard
from tests.layers.heard import Heard, listening
from tests.support import servers
from tests.support.tcp_proxy import TcpProxy


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


async def test_a_server_on_which_nothing_is_wanted_any_more_is_missed_by_nobody(
    redis_url: str, tmp_path: Path
) -> None:
    """Else its outage would last until something is wanted there again, perhaps for ever."""
    with servers.redis(tmp_path) as server:
        async with listening(redis_url, ("127.0.0.1", server.port)) as (layer, heard):
            channel, here = heard.channel, layer._here()
            assert channel is not None
            while here.shard_of(channel.name.encode()) is here.shards[1]:
                channel.close()
                channel = layer.deliver_to(await layer.new_channel(), heard)
            groups = [f"g{n}" for n in range(9)]
            await channel.groups_add(groups)
            server.stop(how=signal.SIGKILL)
            await heard.until(lambda: heard.errors)
            for group in (*groups, "room"):
                if here.shard_of(here.name_of(group)) is here.shards[1]:
                    channel.group_discard(group)
            await heard.until(lambda: heard.returns)


async def test_a_listener_that_fails_at_an_outage_does_not_prolong_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Heard):
        def disconnected(self, error: Exception) -> None:
            super().disconnected(error)
            raise RuntimeError("at the end")

        def reconnected(self) -> None:
            super().reconnected()
            raise RuntimeError("at the begin")

    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        async with listening(f"redis://127.0.0.1:{proxy.port}/0") as (layer, heard):
            broken, answers = Broken(), []
            channel = layer.deliver_to(await layer.new_channel(), broken)
            behind = Heard()
            layer.deliver_to(await layer.new_channel(), behind)
            proxy.hold_answers()
            channel.publish("room", {"n": 0}, answers.append)
            await asyncio.sleep(0)
            await proxy.drop()
            proxy.pass_answers()
            for one in (heard, broken, behind):
                await one.until(lambda: one.returns)
            assert len(answers) == 1 and len(behind.errors) == 1
            await layer.group_send("room", {"n": 1})
            await heard.until(lambda: {"n": 1} in heard.messages)
    assert caplog.text.count(f"the listener of {channel.name} failed") == 2


async def test_a_sender_that_waits_for_room_goes_on_when_the_connection_is_lost(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To learn that messages cannot be sent, as all others do."""
    monkeypatch.setattr(shard, "IN_FLIGHT", 1000)
    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with listening(url) as (layer, heard):
            answers: list[Any] = []
            assert heard.channel is not None
            proxy.hold_answers()
            for _ in range(5):  # some in flight, some behind them
                heard.channel.publish("room", {"x": 600 * "x"}, answers.append)
            assert heard.channel.is_full
            waiting = asyncio.ensure_future(heard.channel.room())
            await asyncio.sleep(0)
            await proxy.cut()
            await asyncio.wait_for(waiting, 20)
            assert len(answers) == 5


async def test_a_sender_that_waits_for_room_goes_on_after_a_flush(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "IN_FLIGHT", 1000)
    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with listening(url) as (layer, heard):
            assert heard.channel is not None
            proxy.hold_answers()
            sending = [
                asyncio.ensure_future(layer.group_send("room", {"x": 600 * "x"}))
                for _ in range(5)
            ]
            await asyncio.sleep(0)
            waiting = asyncio.ensure_future(heard.channel.room())
            await asyncio.sleep(0)
            assert heard.channel.is_full
            await layer.flush()
            await asyncio.wait_for(waiting, 20)
            await asyncio.wait_for(asyncio.wait(sending), 20)
            for one in sending:
                assert isinstance(one.exception(), ConnectionError)


async def test_what_is_asked_during_a_flush_is_not_undone_by_it(
    redis_url: str,
) -> None:
    """Neither is a connection left over, whatever was on its way when the flush came."""
    async with (
        TcpProxy(int(redis_url.split(":")[2].split("/")[0]), 0.002) as proxy,
        Redis.from_url(redis_url) as redis,
    ):
        layer = RedisLayer(2 * [f"redis://127.0.0.1:{proxy.port}/0"])
        for _ in range(15):
            opening = [asyncio.ensure_future(layer.new_channel()) for _ in range(4)]
            for _ in range(random.randrange(40)):
                await asyncio.sleep(0.0005)
            flushing = asyncio.ensure_future(layer.flush())
            for _ in range(random.randrange(1, 10)):
                await asyncio.sleep(0)
            channel = await layer.new_channel()
            heard = Heard()
            direct = layer.deliver_to(channel, heard)
            groups = [f"g{n}" for n in range(9)]
            await direct.groups_add(groups)
            await flushing
            await asyncio.wait(opening)
            for group in groups:
                await layer.group_send(group, {"group": group})
            await heard.until(lambda: len(heard.messages) >= 9)
            assert sorted(m["group"] for m in heard.messages) == groups
            assert not heard.errors
        await layer.flush()
        async with asyncio.timeout(20):
            while any(int(client["sub"]) for client in await redis.client_list()):
                await asyncio.sleep(0.01)


async def test_whatever_comes_and_goes_redis_has_the_groups_of_the_layer(
    redis_url: str,
) -> None:
    """Joins that are cancelled, overtaken by leaves, or cut off with their connection."""
    async with (
        listening(redis_url) as (layer, heard),
        Redis.from_url(redis_url) as redis,
    ):
        channel, here, joins = heard.channel, layer._here(), set[asyncio.Future[None]]()
        assert channel is not None
        names = [f"g{n}" for n in range(6)]
        for _ in range(600):
            what = random.random()
            if what < 0.5:
                some = random.sample(names, random.randrange(1, 4))
                joins.add(asyncio.ensure_future(channel.groups_add(some)))
            elif what < 0.8:
                channel.group_discard(random.choice(names))
            elif what < 0.85 and joins:
                random.choice([*joins]).cancel()
            elif what < 0.87:
                await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(random.choice([0, 0, 0, 0.003]))
        _, waiting = await asyncio.wait(joins, timeout=20)
        assert not waiting
        async with asyncio.timeout(20):
            while here._cut:
                await asyncio.sleep(0.01)
        await layer.new_channel()  # behind all that was asked
        assert {*await redis.pubsub_channels("*__group__*")} == {*here._groups}
        subscriptions = here.shards[0].subscriptions
        assert subscriptions._wanted == subscriptions._active == subscriptions._sent


async def test_flushall_costs_no_message_and_no_group(redis_url: str) -> None:
    """Redis forgets all its keys; subscriptions are none of them."""
    async with (
        listening(redis_url) as (layer, heard),
        listening(redis_url) as (other, elsewhere),
        Redis.from_url(redis_url) as redis,
    ):
        sending = [
            asyncio.ensure_future(layer.group_send("room", {"n": n})) for n in range(50)
        ]
        for n in range(50, 1000):
            sending.append(asyncio.ensure_future(other.group_send("room", {"n": n})))
            if n % 50 == 0:
                await redis.flushall()
                await layer.group_add(f"g{n}", heard.channel.name)
        await asyncio.gather(*sending)
        for one in (heard, elsewhere):
            await one.until(lambda: len(one.messages) == 1000)
            numbers = [message["n"] for message in one.messages]
            assert [n for n in numbers if n >= 50] == [*range(50, 1000)]
            assert [n for n in numbers if n < 50] == [*range(50)]
            assert not one.errors
        heard.messages.clear()
        for n in range(50, 1000, 50):
            await other.group_send(f"g{n}", {"n": n})
        await heard.until(lambda: len(heard.messages) == 19)


async def test_what_was_sent_from_a_channel_is_not_overtaken_when_it_ends(
    redis_url: str,
) -> None:
    """Without channels, a loop sends over the connection of another loop, which may be nearer."""
    async with (
        listening(redis_url) as (_, heard),
        TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy,
    ):
        layer = RedisLayer([f"redis://127.0.0.1:{proxy.port}/0"])
        await layer.group_send("room", {"n": -1})  # the other loop has its connection
        channel = layer.deliver_to(await layer.new_channel(), Heard())
        proxy.delay = 0.5
        answers: list[Any] = []
        for n in range(3):
            channel.publish("room", {"n": n}, answers.append)
        await asyncio.sleep(0.1)  # until they are on the line
        channel.close()
        proxy.delay = 0
        await layer.group_send("room", {"n": 3})
        await heard.until(lambda: len(heard.messages) == 5)
        assert [message["n"] for message in heard.messages] == [*range(-1, 4)]
        await layer.flush()


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


async def test_two_joins_of_one_channel_need_not_end_alike(redis_url: str) -> None:
    layer = RedisLayer(hosts=[redis_url])
    channel = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(channel))
    await layer.send(channel, {"type": "ready"})
    assert await receiving == {"type": "ready"}
    for cancelled in (0, 1):
        group = f"group{cancelled}"
        joins = [asyncio.create_task(layer.group_add(group, channel)) for _ in range(2)]
        await asyncio.sleep(0)
        joins[cancelled].cancel()
        await joins[1 - cancelled]
        await asyncio.wait(joins)
        async with asyncio.timeout(10):
            await layer.group_send(group, {"type": group})
            assert await layer.receive(channel) == {"type": group}
    joins = [asyncio.create_task(layer.group_add("none", channel)) for _ in range(2)]
    await asyncio.sleep(0)
    for join in joins:
        join.cancel()
    await asyncio.wait(joins)
    async with asyncio.timeout(10), Redis.from_url(redis_url) as redis:
        while await redis.pubsub_channels("*none"):
            await asyncio.sleep(0.01)
    await layer.flush()
