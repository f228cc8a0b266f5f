"""A right that is taken away, while its client joins, pushes, leaves and comes back as fast as it can."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.integration.revocation_app:application"
SETTINGS = "tests.integration.revocation_settings"
OF_TOKENS = ["revoke", "revoke_user"]
WAYS = [
    "reauthorize",
    "disconnect_user",
    "logout",
    "close_topic",
    "password",
    *OF_TOKENS,
]


def site_env(folder: Path, redis_url: str = "") -> dict[str, str]:
    """The environment of the processes of a site, which has a new database."""
    (folder / "database").mkdir()
    env = {
        "PHX_DATABASE": str(folder / "database" / "db.sqlite3"),
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PHX_LAYER": "redis",
        "PHX_REDIS_URL": redis_url,
    }
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(
        migrate, cwd=servers.ROOT, env={**os.environ, **env}, check=True, timeout=120
    )
    return env


@pytest.fixture(scope="module", params=["one process", "two processes"])
def sites(
    request: pytest.FixtureRequest,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[servers.Server]]:
    """Where the right is taken away, and where its client is."""
    folder = tmp_path_factory.mktemp("revocation")
    env = site_env(folder, redis_url)
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                servers.serve("frames", folder / f"{i}.log", APPLICATION, **env)
            )
            for i in range(1 + (request.param == "two processes"))
        ]
        yield [running[0], running[-1]]


class Intruder:
    """Somebody who joins, pushes, leaves and comes back as fast as possible, with one session, or one
    token."""

    def __init__(self, url: str, session: str, token: str | None = None) -> None:
        self._url = f"{url}/socket/websocket?vsn=2.0.0"
        self._headers = {
            "Cookie": f"sessionid={session}",
            "Sec-Fetch-Site": "same-origin",
        }
        if token is not None:
            self._url = f"{url}/tokens/websocket?vsn=2.0.0&token={token}"
            self._headers = {}
        self._refs = map(str, itertools.count(1))
        self.connection: ClientConnection | None = None
        self.answered = 0

    async def connect(self) -> None:
        self.connection = await connect(
            self._url, additional_headers=self._headers, proxy=None, ping_interval=None
        )

    async def send(self, topic: str, event: str, join_ref: str | None = None) -> str:
        assert self.connection is not None
        ref = next(self._refs)
        await self.connection.send(json.dumps([join_ref or ref, ref, topic, event, {}]))
        return ref

    async def intrude(self) -> None:
        """Until this is cancelled."""
        for i in itertools.count():
            try:
                if self.connection is None:
                    await self.connect()
                topic = f"staff:{i % 3}"
                joined = await self.send(topic, "phx_join")
                for _ in range(3):
                    await self.send(topic, "echo", joined)
                await self.read_until(await self.send(topic, "echo", joined))
                if i % 4 == 3:
                    await self.send(topic, "phx_leave", joined)
            except ConnectionClosed:
                self.connection = None
            except InvalidStatus:
                return  # it is refused

    async def read_until(self, ref: str) -> list[list[Any]]:
        """Return the messages until that is answered."""
        frames = []
        async with asyncio.timeout(20):
            while True:
                assert self.connection is not None
                frames.append(json.loads(await self.connection.recv()))
                self.answered += frames[-1][3] == "phx_reply"
                if frames[-1][1] == ref and frames[-1][3] == "phx_reply":
                    return frames

    async def still_gets(self, shout: Any) -> list[list[Any]]:
        """Return what is answered or delivered from now on under the old right, without joining again."""
        if self.connection is None:
            return []
        try:
            # all that was on its way by now comes before the answer to this
            await self.read_until(await self.send("phoenix", "heartbeat"))
            await shout()
            for topic in ("staff:0", "staff:1", "staff:2"):
                await self.send(topic, "echo")
            frames = await self.read_until(await self.send("phoenix", "heartbeat"))
        except ConnectionClosed:
            return []
        return [f for f in frames if _is_of_a_right(f)]

    async def gets_in(self) -> bool:
        """Whether it may come back."""
        try:
            if self.connection is None or self.connection.close_code is not None:
                await self.connect()
            frames = await self.read_until(await self.send("staff:0", "phx_join"))
        except InvalidStatus:
            return False
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == 4403:
                return False
            return await self.gets_in()
        return bool(frames[-1][4]["status"] == "ok")


def _is_of_a_right(frame: list[Any]) -> bool:
    _, _, topic, event, payload = frame
    if not topic.startswith("staff") or event in ("phx_close", "phx_error"):
        return False
    return event != "phx_reply" or payload["status"] == "ok"


Stop = Callable[[], Awaitable[Any]]


@contextlib.asynccontextmanager
async def intruding(
    sites: list[servers.Server], session: str, token: str | None = None
) -> AsyncIterator[tuple[list[Intruder], Stop]]:
    """Intruders at work, and what has them stop and look."""
    intruders = [Intruder(site.url, session, token) for site in sites for _ in range(2)]
    tasks = [asyncio.create_task(intruder.intrude()) for intruder in intruders]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        while any(intruder.answered < 12 for intruder in intruders):
            await asyncio.sleep(0.001)
        yield intruders, stop
    finally:
        await stop()
        for intruder in intruders:
            if intruder.connection is not None:
                await intruder.connection.close()


async def survivors(sites: list[servers.Server], how: str, tries: int) -> list[Any]:
    found: list[Any] = []
    async with Client(sites[0].url, "/control") as control:
        await control.join("control")

        async def shout() -> None:
            await control.ask("control", "shout")

        for _ in range(tries):
            _, one = await control.ask("control", "prepare")
            token = one["token"] if how in OF_TOKENS else None
            async with intruding(sites, one["session"], token) as (intruders, stop):
                if how == "close_topic":  # who joins meanwhile may have come after it
                    await stop()
                before = [intruder.connection for intruder in intruders]
                took = await control.ask("control", "take_away", {"how": how, **one})
                assert took == ("ok", {})
                await stop()
                for intruder, then in zip(intruders, before):
                    if how == "disconnect_user" and intruder.connection is not then:
                        continue  # who has come back may be here
                    # it does not join again
                    intruder_gets = await intruder.still_gets(shout)
                    if how == "close_topic":
                        intruder_gets = [f for f in intruder_gets if f[2] == "staff:1"]
                    found += intruder_gets
                    if how not in ("disconnect_user", "close_topic"):
                        found += [how] * await intruder.gets_in()
    return found


@pytest.mark.parametrize("how", WAYS)
async def test_nothing_of_a_right_survives_that_was_taken_away(
    sites: list[servers.Server], how: str
) -> None:
    assert await survivors(sites, how, 3) == []


@pytest.mark.big
@pytest.mark.parametrize("how", WAYS)
async def test_nothing_survives_in_two_hundred_tries(
    sites: list[servers.Server], how: str
) -> None:
    assert await survivors(sites, how, 200) == []


async def test_a_process_that_does_not_answer_is_named(
    sites: list[servers.Server],
) -> None:
    here, there = sites
    if here is there:
        pytest.skip("one process waits for nobody")
    async with (
        Client(here.url, "/control") as control,
        Client(there.url, "/control") as other,
    ):
        await control.join("control")
        await other.join("control")
        _, one = await control.ask("control", "prepare")
        os.kill(there.process.pid, 19)  # SIGSTOP: it lives, and says nothing
        try:
            body = {"how": "disconnect_user", **one}
            ref = await control.push("control", "take_away", body)
            await control.until("phx_error")
            assert ref
        finally:
            os.kill(there.process.pid, 18)
        assert f"pid {there.process.pid}" in here.logged()


async def asked(site: servers.Server, event: str, payload: Any = None) -> Any:
    """Let a process do something, and return what it says."""
    async with Client(site.url, "/control") as control:
        await control.join("control")
        status, reply = await control.ask("control", event, payload)
        assert status == "ok"
        return reply


async def gets_in(site: servers.Server, one: dict[str, str]) -> bool:
    return await Intruder(site.url, one["session"], one["token"]).gets_in()


async def test_a_revoked_token_is_refused_after_a_restart_of_everything(
    tmp_path: Path,
) -> None:
    env = site_env(tmp_path)
    with servers.redis(tmp_path) as redis:
        env["PHX_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        with servers.serve("frames", tmp_path / "1.log", APPLICATION, **env) as site:
            ada, bob = await asked(site, "prepare"), await asked(site, "prepare")
            await asked(site, "take_away", {"how": "revoke", **ada})
    with servers.redis(tmp_path) as redis:
        env["PHX_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        with servers.serve("frames", tmp_path / "2.log", APPLICATION, **env) as site:
            assert not await gets_in(site, ada)
            assert await gets_in(site, bob)


@pytest.mark.big  # it waits for a beat
async def test_without_redis_a_token_is_revoked_within_seconds_all_the_same(
    tmp_path: Path,
) -> None:
    """The process that does not hear of it looks into the database."""
    env = site_env(tmp_path)
    with servers.redis(tmp_path) as redis, contextlib.ExitStack() as stack:
        env["PHX_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        here, there = [
            stack.enter_context(
                servers.serve("frames", tmp_path / f"{n}.log", APPLICATION, **env)
            )
            for n in range(2)
        ]
        ada = await asked(here, "prepare")
        intruder = Intruder(there.url, "", ada["token"])
        assert await intruder.gets_in() and await gets_in(here, ada)
        redis.stop()
        async with Client(here.url, "/control") as control:
            await control.join("control")
            body = {"how": "revoke", **ada}
            await control.push("control", "take_away", body)
            await control.until("phx_error")  # it is a BroadcastError
        assert not await gets_in(here, ada)
        assert intruder.connection is not None
        async with asyncio.timeout(20):
            await intruder.connection.wait_closed()
        assert intruder.connection.close_code == 4401
        assert not await gets_in(there, ada)


async def test_without_the_database_clients_with_a_token_are_refused_and_others_stay(
    tmp_path: Path,
) -> None:
    env = site_env(tmp_path)
    with servers.serve("frames", tmp_path / "1.log", APPLICATION, **env) as site:
        ada, bob = await asked(site, "prepare"), await asked(site, "prepare")
        intruder = Intruder(site.url, "", ada["token"])
        assert await intruder.gets_in()
        (tmp_path / "database").rename(tmp_path / "away")
        async with asyncio.timeout(30):
            while await gets_in(site, bob):
                await asyncio.sleep(0.1)
        assert await intruder.gets_in()  # over the connection that it has
        (tmp_path / "away").rename(tmp_path / "database")
        async with asyncio.timeout(30):
            while not await gets_in(site, bob):
                await asyncio.sleep(0.1)
