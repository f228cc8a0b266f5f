"""nginx and HAProxy send the clients of a room to one process, as docs/scaling.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.conformance.asgi:application"
PAGE = (servers.ROOT / "docs/scaling.md").read_text()
#: so many that each process gets some of them
ROOMS = [f"{n}" for n in range(24)]
UPGRADE = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
"""


def nginx_as_documented(folder: Path, running: list[servers.Server]) -> Any:
    """With the map and the hash of the recipe."""
    recipe = r"```nginx\n(map .*?\n})\n\nupstream \w+ {\n(.*?;)\n +server \S+ (.*?);"
    found = re.search(recipe, PAGE, re.S)
    assert found is not None
    key, place, server = found.groups()
    lines = {"http": key, "upstream": place, "server": server}
    return servers.nginx(folder, *running, location=UPGRADE, **lines)


def haproxy_as_documented(folder: Path, running: list[servers.Server]) -> Any:
    """With the lines of the recipe, and the parameters of its servers."""
    recipe = r"```text\nbackend \w+\n(.*?)\n +server \w+ \S+ (.*?)\n"
    found = re.search(recipe, PAGE, re.S)
    assert found is not None
    return servers.haproxy(folder, *running, backend=found[1], server=found[2])


PROXIES = {"nginx": nginx_as_documented, "haproxy": haproxy_as_documented}


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Any:
    """A proxy as in the docs, and as many processes behind it as one likes."""

    @contextmanager
    def site(processes: int) -> Iterator[list[servers.Server]]:
        env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
        with ExitStack() as stack:
            running = [
                stack.enter_context(
                    servers.serve("frames", tmp_path / f"{n}.log", APPLICATION, **env)
                )
                for n in range(processes)
            ]
            proxy = PROXIES[request.param](tmp_path, running)
            yield [stack.enter_context(proxy), *running]

    return site


async def upstream(proxy: servers.Server, room: str | None) -> str:
    """The process to which a client of that room comes; None is one without a room."""
    url = f"{proxy.url}/socket/websocket?vsn=2.0.0"
    url += f"&room={room}" if room else ""
    async with connect(url, proxy=None) as opened:
        assert opened.response is not None
        return opened.response.headers["x-upstream"]


async def test_clients_of_a_room_meet_in_one_process(
    proxied: Any,
) -> None:
    with proxied(3) as (proxy, *processes):
        places = {room: await upstream(proxy, room) for room in ROOMS}
        assert {*places.values()} == {process.address for process in processes}
        for room, place in places.items():
            for _ in range(3):
                assert await upstream(proxy, room) == place
        # those without a room are spread
        assert len({await upstream(proxy, None) for _ in range(20)}) > 1


async def test_over_long_poll_they_meet_there_too(
    proxied: Any,
) -> None:
    with proxied(2) as (proxy, *_):
        url = f"http://{proxy.address}/socket/longpoll"
        async with httpx.AsyncClient(params={"vsn": "2.0.0"}) as client:
            for room in ROOMS[:4]:
                place = await upstream(proxy, room)
                opened = await client.get(url, params={"room": room})
                token = opened.json()["token"]
                join = json.dumps(["1", "1", f"room:{room}", "phx_join", {}])
                session = {"room": room, "token": token}
                posted = await client.post(url, params=session, content=join)
                polled = await client.get(url, params=session)
                assert polled.json()["status"] == posted.json()["status"] == 200
                for answer in (opened, posted, polled):
                    assert answer.headers["x-upstream"] == place


async def test_a_process_that_goes_takes_its_rooms_only(
    proxied: Any,
) -> None:
    with proxied(3) as (proxy, *processes):
        before = {room: await upstream(proxy, room) for room in ROOMS}
        processes[0].stop()
        after = {room: (await upstream(proxy, room)).split(", ")[-1] for room in ROOMS}
        for room in ROOMS:
            if before[room] == processes[0].address:
                assert after[room] != before[room]
            else:
                assert after[room] == before[room]


async def test_who_lands_elsewhere_misses_nothing(
    proxied: Any,
) -> None:
    with proxied(2) as (proxy, *processes):
        place = await upstream(proxy, "1")
        (other,) = [process for process in processes if process.address != place]
        async with Client(proxy.url, room="1") as ada, Client(other.url) as bob:
            for client in (ada, bob):
                assert (await client.join("room:1"))[0] == "ok"
            await ada.push("room:1", "shout", {"n": 1})
            assert await bob.until("shout", "room:1") == {"n": 1}
