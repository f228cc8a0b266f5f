"""The ways to a Redis: each form of a host, TLS, users, Unix sockets, sentinels."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol.layers import RedisLayer, server
from tests.layers.heard import listening
from tests.support import servers
from tests.support.certificates import certify
from tests.support.tcp_proxy import TcpProxy

PASSWORD = "p:a@s/s%41 w#ö?rd"
IN_URL = "p%3Aa%40s%2Fs%2541%20w%23%C3%B6%3Frd"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A Redis with all entrances: TCP, TLS, a Unix socket, a password, a user."""
    directory = tmp_path_factory.mktemp("entrances")
    certify(directory)
    tls = servers.free_port()
    options = [
        *("--tls-port", str(tls), "--tls-auth-clients", "no"),
        *("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"),
        *("--tls-ca-cert-file", "cert.pem", "--unixsocket", str(directory / "s.sock")),
        *("--requirepass", PASSWORD, "--user", "Ann", "on", f">{PASSWORD}"),
        *("&*", "-@all", "+publish", "+subscribe", "+unsubscribe"),
    ]
    with servers.redis(directory, None, *options) as running:
        running.tls = tls  # type: ignore[attr-defined]
        yield running


def hosts(redis: servers.Server) -> dict[str, Any]:
    port, tls, home = redis.port, getattr(redis, "tls"), redis.log.parent
    at = {"host": "127.0.0.1", "port": port}
    return {
        "url": f"redis://:{IN_URL}@127.0.0.1:{port}/0",
        "url of a user": f"redis://Ann:{IN_URL}@127.0.0.1:{port}",
        "url with options": f"redis://:{IN_URL}@127.0.0.1:{port}/3?protocol=3&client_name=us",
        "dict of url": {"address": f"redis://127.0.0.1:{port}", "password": PASSWORD},
        "dict": {**at, "password": PASSWORD, "db": 2, "socket_timeout": 1},
        "dict of a user": {**at, "username": "Ann", "password": PASSWORD},
        "tls": {
            "address": f"rediss://:{IN_URL}@127.0.0.1:{tls}/0",
            "ssl_ca_certs": str(home / "cert.pem"),
        },
        "tls unchecked": {
            "address": f"rediss://:{IN_URL}@127.0.0.1:{tls}/0",
            "ssl_cert_reqs": None,
        },
        "unix": f"unix://:{IN_URL}@{home}/s.sock",
    }


FORMS = [
    *("url", "url of a user", "url with options", "dict of url", "dict"),
    *("dict of a user", "tls", "tls unchecked", "unix"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_form_of_a_host_leads_there(
    form: str, new_loop: Any, redis: servers.Server
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(exchange(hosts(redis)[form]))


async def exchange(host: Any) -> None:
    """Send much, of each kind, from one layer to another."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with listening(host) as (layer, heard), listening(host) as (other, _):
            channel = await layer.new_channel()
            names = [f"g{n}" for n in range(1200)]
            await asyncio.gather(*(layer.group_add(name, channel) for name in names))
            large = {"data": 300_000 * "x"}
            await asyncio.gather(*(other.group_send("room", large) for _ in range(20)))
            await heard.until(lambda: len(heard.messages) == 20)
            assert heard.messages == 20 * [large] and not heard.errors


async def test_pairs_are_hosts_too(redis_url: str) -> None:
    port = int(redis_url.split(":")[2].split("/")[0])
    for host in (("127.0.0.1", port), ["127.0.0.1", port]):
        async with listening(host) as (layer, heard):
            await layer.group_send("room", {"n": 1})
            await heard.until(lambda: heard.messages)


async def test_a_wrong_password_is_an_error(redis: servers.Server) -> None:
    layer = RedisLayer([f"redis://:wrong@127.0.0.1:{redis.port}"])
    for _ in range(2):
        with pytest.raises(ConnectionError, match="password"):
            await layer.new_channel()
    await layer.flush()


async def test_a_connection_that_is_cut_over_tls_comes_back(
    redis: servers.Server,
) -> None:
    async with TcpProxy(getattr(redis, "tls")) as proxy:
        host = {**hosts(redis)["tls"]}
        host["address"] = f"rediss://:{IN_URL}@127.0.0.1:{proxy.port}/0"
        async with listening(host) as (layer, heard):
            await proxy.drop()
            await heard.until(lambda: heard.returns)
            await layer.group_send("room", {"n": 1})
            await heard.until(lambda: heard.messages)


async def test_a_server_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 0.2)
    async with TcpProxy(int(redis_url.split(":")[2].split("/")[0])) as proxy:
        proxy.hold_answers()
        layer = RedisLayer([f"redis://127.0.0.1:{proxy.port}"])
        with pytest.raises(ConnectionError, match="has not answered in 0.2 seconds"):
            await layer.new_channel()
        await layer.flush()


async def fail_over(sentinel: Redis) -> None:
    """Make the replica the primary, as soon as `sentinel` knows it."""
    while True:
        try:
            await sentinel.execute_command("SENTINEL", "failover", "primary")
            return
        except ResponseError:
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def sentinel(directory: Path, port: int) -> Iterator[dict[str, Any]]:
    """The host that a Sentinel knows, which watches the Redis on `port`."""
    own = servers.free_port()
    lines = [
        f"port {own}",
        "bind 127.0.0.1",
        f"sentinel monitor primary 127.0.0.1 {port} 1",
        "sentinel failover-timeout primary 3000",
    ]
    (directory / "sentinel.conf").write_text("\n".join(lines))
    args = ["redis-server", str(directory / "sentinel.conf"), "--sentinel"]
    with servers.run(args, own, directory / "sentinel.log"):
        yield {"sentinels": [("127.0.0.1", own)], "master_name": "primary"}


async def test_sentinels_name_the_primary(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as redis, sentinel(tmp_path, redis.port) as host:
        async with listening(host) as (layer, heard):
            await layer.group_send("room", {"n": 1})
            await heard.until(lambda: heard.messages)


@pytest.mark.big  # a Sentinel looks for replicas every ten seconds
async def test_sentinels_name_the_next_primary(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as first, servers.redis(tmp_path) as second:
        async with Redis(port=second.port) as replica:
            await replica.replicaof("127.0.0.1", first.port)
            while (await replica.info())["master_link_status"] != "up":
                await asyncio.sleep(0.05)
        with sentinel(tmp_path, first.port) as host:
            async with (
                Redis(port=host["sentinels"][0][1]) as watching,
                listening(host) as (layer, heard),
            ):
                await fail_over(watching)
                await heard.until(lambda: heard.returns, 60)
                async with listening(("127.0.0.1", second.port)) as (other, _):
                    await other.group_send("room", {"n": 1})
                    await heard.until(lambda: heard.messages)
