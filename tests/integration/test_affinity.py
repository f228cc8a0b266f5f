"""nginx sends the clients of a room to one process, as docs/scaling.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from websockets.asyncio.client import connect

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.conformance.asgi:application"
PAGE = (servers.ROOT / "docs/scaling.md").read_text()
ROOMS = [f"{n}" for n in range(12)]
UPGRADE = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
"""


def documented() -> tuple[str, str]:
    """The map and the hash of the recipe."""
    found = re.search(r"```nginx\n(map .*?\n})\n\nupstream \w+ {\n(.*?;)", PAGE, re.S)
    assert found is not None
    return found[1], found[2]


@contextmanager
def site(
    folder: Path, redis_url: str, processes: int
) -> Iterator[list[servers.Server]]:
    """An nginx as in the docs, and processes behind it."""
    env = {"PHX_REDIS_URL": redis_url, "PHX_LAYER": "redis"}
    key, place = documented()
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                servers.serve("frames", folder / f"{n}.log", APPLICATION, **env)
            )
            for n in range(processes)
        ]
        nginx = servers.nginx(
            folder,
            *running,
            location=UPGRADE,
            http=key,
            upstream=place,
            server="max_fails=0",
        )
        yield [stack.enter_context(nginx), *running]


async def upstream(proxy: servers.Server, room: str) -> str:
    """The process to which a client of that room comes."""
    url = f"{proxy.url}/socket/websocket?room={room}&vsn=2.0.0"
    async with connect(url, proxy=None) as opened:
        assert opened.response is not None
        return opened.response.headers["x-upstream"]


async def test_clients_of_a_room_meet_in_one_process(
    tmp_path: Path, redis_url: str
) -> None:
    with site(tmp_path, redis_url, 3) as (proxy, *processes):
        places = {room: await upstream(proxy, room) for room in ROOMS}
        assert {*places.values()} == {process.address for process in processes}
        for room, place in places.items():
            for _ in range(3):
                assert await upstream(proxy, room) == place
        # those without a room are spread
        assert len({await upstream(proxy, "") for _ in range(20)}) > 1


async def test_over_long_poll_they_meet_there_too(
    tmp_path: Path, redis_url: str
) -> None:
    with site(tmp_path, redis_url, 2) as (proxy, *_):
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
    tmp_path: Path, redis_url: str
) -> None:
    with site(tmp_path, redis_url, 3) as (proxy, *processes):
        before = {room: await upstream(proxy, room) for room in ROOMS}
        processes[0].stop()
        after = {room: (await upstream(proxy, room)).split(", ")[-1] for room in ROOMS}
        for room in ROOMS:
            if before[room] == processes[0].address:
                assert after[room] != before[room]
            else:
                assert after[room] == before[room]


async def test_who_lands_elsewhere_misses_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    with site(tmp_path, redis_url, 2) as (proxy, *processes):
        place = await upstream(proxy, "1")
        (other,) = [process for process in processes if process.address != place]
        async with Client(proxy.url, room="1") as ada, Client(other.url) as bob:
            for client in (ada, bob):
                assert (await client.join("room:1"))[0] == "ok"
            await ada.push("room:1", "shout", {"n": 1})
            assert await bob.until("shout", "room:1") == {"n": 1}
