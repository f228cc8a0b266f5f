"""Two processes on one Redis, and what happens to them: clients miss nothing, or are told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests import servers
from tests.client import PATIENCE, Client

APPLICATION = "tests.integration.history_app:application"
LAYERS = ["pubsub", "core-default"]


async def shown(client: Client, last: int) -> list[Any]:
    """The numbers that come, up to `last`, or up to the end of the channel."""
    numbers: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            _, _, _, event, payload = await client.receive()
            if event == "msg":
                numbers.append(payload["i"])
            if event == "phx_error" or numbers[-1:] == [last]:
                return numbers + ["told"] * (event == "phx_error")


@pytest.mark.parametrize("layer", LAYERS)
async def test_a_redis_that_comes_back_with_what_it_had_a_while_ago_swallows_nothing(
    layer: str, tmp_path: Path
) -> None:
    """As after a crash, from its snapshot: the same epoch, and fewer broadcasts."""
    port, topic = servers.free_port(), "kept:snapshot"
    env = {"PHX_LAYER": layer, "PHX_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    env["DJANGO_SETTINGS_MODULE"] = "tests.integration.history_settings"
    with (
        servers.redis(tmp_path, port) as redis,
        servers.serve("uvicorn", tmp_path / "one", APPLICATION, **env) as one,
    ):
        async with Client(one.url, user="a") as a, Client(one.url, user="b") as b:
            for client in (a, b):
                await client.join(topic)
            for i in range(10):
                assert (await a.ask(topic, "say", {"i": i}))[0] == "ok"
                if i == 2:
                    with Redis(port=port) as there:
                        there.save()
            assert await shown(b, 9) == list(range(10))
            redis.stop(signal.SIGKILL)
            with servers.redis(tmp_path, port):
                for i in range(10, 20):
                    await a.push(topic, "say", {"i": i})
                numbers = await shown(b, 19)
    if numbers[-1] == "told":
        numbers.pop()
        assert numbers == list(range(10, 10 + len(numbers)))
    else:
        assert numbers == list(range(10, 20))
