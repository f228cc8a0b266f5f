"""Tokens end, and are renewed, whatever is away meanwhile."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.integration.token_app:application"


def token(site: servers.Server, user: str, seconds: float) -> str:
    address = f"{site.url.replace('ws', 'http', 1)}/token/{user}/{seconds}"
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def tab(site: servers.Server, seconds: float) -> Client:
    return Client(site.url, apikey=token(site, "ada", seconds))


@pytest.mark.parametrize("how", ["stopped", "paused"])
async def test_without_redis_tokens_end_in_time_and_are_renewed(
    how: str, tmp_path: Path
) -> None:
    with servers.redis(tmp_path) as redis:
        env = {
            "PHX_LAYER": "redis",
            "PHX_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        }
        with servers.serve("frames", tmp_path / "log", APPLICATION, **env) as site:
            begun = time.time()
            async with tab(site, 4) as one, tab(site, 4) as two:
                for client in (one, two):
                    await client.join("room:1")
                if how == "stopped":
                    redis.stop()
                else:
                    redis.process.send_signal(19)
                try:
                    fresh = {"access_token": token(site, "ada", 60)}
                    answer = await two.ask("room:1", "access_token", fresh)
                    assert answer[0] == "ok" and answer[1]["expires_in"] > 30
                    assert await one.closed() == 4401
                    assert time.time() > begun + 3.9
                    # the other one stays, and may do what it may
                    assert await two.ask("room:1", "echo", {"n": 1}) == ("ok", {"n": 1})
                    async with tab(site, 60) as new:
                        assert (await new.join("room:2"))[0] == "ok"
                finally:
                    if how == "paused":
                        redis.process.send_signal(18)
