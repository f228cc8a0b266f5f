"""The limits of users and addresses over two real processes on one Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.integration.test_revocation import APPLICATION, asked, site_env
from tests.support import servers


@contextlib.contextmanager
def two(folder: Path, redis_url: str, **env: str) -> Iterator[list[servers.Server]]:
    env = {**site_env(folder, redis_url), **env}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                servers.serve("frames", folder / f"{n}.log", APPLICATION, **env)
            )
            for n in range(2)
        ]


async def opened(
    site: servers.Server, token: str, address: str = ""
) -> ClientConnection:
    url = f"{site.url}/tokens/websocket?vsn=2.0.0&token={token}"
    headers = {"X-Forwarded-For": address} if address else {}
    return await connect(url, additional_headers=headers, proxy=None)


async def test_the_oldest_of_a_users_connections_is_closed_in_whatever_process_it_is(
    tmp_path: Path, redis_url: str
) -> None:
    with two(tmp_path, redis_url, PHX_PER_USER="2") as (here, there):
        ada, bob = await asked(here, "prepare"), await asked(here, "prepare")
        tabs = [await opened(site, ada["token"]) for site in (here, there)]
        other = await opened(there, bob["token"])
        tabs.append(await opened(there, ada["token"]))
        async with asyncio.timeout(10):
            await tabs[0].wait_closed()
        assert tabs[0].close_code == 4429
        tabs.append(await opened(here, ada["token"]))
        async with asyncio.timeout(10):
            await tabs[1].wait_closed()
        assert tabs[1].close_code == 4429
        await tabs[2].ping()
        await other.ping()
        for one in (*tabs, other):
            await one.close()


async def test_an_address_connects_so_often_to_both_together(
    tmp_path: Path, redis_url: str
) -> None:
    with two(tmp_path, redis_url, PHX_CONNECT_RATE="3/h") as (here, there):
        ada = await asked(
            here, "prepare"
        )  # over a proxy without the header: it counts for nobody
        for site in (here, there, here):
            await (await opened(site, ada["token"], "203.0.113.9")).close()
        for site in (here, there):
            with pytest.raises(InvalidStatus) as refused:
                await opened(site, ada["token"], "203.0.113.9")
            assert refused.value.response.status_code == 429
            assert 0 < int(refused.value.response.headers["Retry-After"]) <= 1200
        await (await opened(there, ada["token"], "203.0.113.10")).close()
