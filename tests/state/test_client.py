"""The connection of a state: calls one behind the other, its end, and the next one."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from phx_protocol.layers.server import Server
from phx_protocol.state import client as module
from phx_protocol.state.client import Client, is_away
from phx_protocol.state.scripts import Script
from tests.support import servers
from tests.support.tcp_proxy import TcpProxy

SUM = Script.of("return ARGV[1] + ARGV[2]")


@pytest.fixture
def there(redis_url: str) -> Redis:
    """The server, as another one sees it."""
    return Redis.from_url(redis_url)


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(redis_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: TcpProxy) -> AsyncIterator[Client]:
    client = Client(Server({"host": "127.0.0.1", "port": proxy.port}, 5))
    yield client
    await client.close()


async def test_calls_at_once_share_a_connection_and_each_gets_its_own_answer(
    client: Client, proxy: TcpProxy
) -> None:
    calls = [client.call("ECHO", f"{i}") for i in range(1000)]
    assert await asyncio.gather(*calls) == [b"%d" % i for i in range(1000)]
    assert proxy.made == 1


async def test_what_is_called_in_one_turn_leaves_in_one_write(client: Client) -> None:
    await client.call("PING")
    connection = client._connection
    assert connection is not None
    writes: list[int] = []
    write = connection.write

    def note(commands: list[module.Command]) -> None:
        writes.append(len(commands))
        write(commands)

    connection.write = note  # type: ignore[method-assign]
    await asyncio.gather(*(client.call("PING") for _ in range(100)))
    assert writes == [100]


async def test_an_error_fails_its_own_call_only(client: Client) -> None:
    found = await asyncio.gather(
        client.call("ECHO", "a"),
        client.call("NONSENSE"),
        client.call("ECHO", "b"),
        return_exceptions=True,
    )
    assert isinstance(found[1], ResponseError)
    assert [found[0], found[2]] == [b"a", b"b"]


async def test_scripts_that_redis_does_not_know_are_sent_to_it(
    client: Client, there: Redis
) -> None:
    for _ in range(2):
        there.script_flush()
        calls = [client.eval(SUM, [], [i, 1]) for i in range(50)]
        assert await asyncio.gather(*calls) == list(range(1, 51))


async def test_more_calls_than_may_be_in_flight_wait_and_are_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT", 10_000)
    await client.call("PING")
    connection, most = client._connection, 0
    assert connection is not None
    write = connection.write

    def note(commands: list[module.Command]) -> None:
        nonlocal most
        write(commands)
        most = max(most, connection.in_flight)

    connection.write = note  # type: ignore[method-assign]
    body = "x" * 1000
    calls = [client.call("ECHO", f"{i}{body}") for i in range(200)]
    found = await asyncio.gather(*calls)
    assert found == [f"{i}{body}".encode() for i in range(200)]
    assert 10_000 <= most < 12_000


async def test_calls_fail_with_their_connection_and_the_next_one_makes_another(
    client: Client, proxy: TcpProxy
) -> None:
    await client.call("PING")
    proxy.hold_answers()
    calls = [asyncio.ensure_future(client.call("PING")) for _ in range(3)]
    while not (client._connection and client._connection.in_flight):
        await asyncio.sleep(0)
    await proxy.drop()
    for found in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(found, ConnectionError) and is_away(found)
    proxy.pass_answers()
    assert await client.call("PING") == b"PONG"
    assert proxy.made == 2


async def test_the_traceback_of_an_error_is_not_that_of_all_calls(
    client: Client,
) -> None:
    await client.call("PING")
    told: list[int] = []

    async def call() -> None:
        try:
            await client.call("PING")
        except ConnectionError as error:
            told.append(len(traceback.extract_tb(error.__traceback__)))

    calls = [asyncio.ensure_future(call()) for _ in range(100)]
    await asyncio.sleep(0)
    client._give_up(ConnectionError("gone"))
    await asyncio.gather(*calls)
    assert told == [told[0]] * 100


async def test_a_server_that_says_nothing_has_so_many_seconds(
    client: Client, proxy: TcpProxy
) -> None:
    await client.call("PING")
    await client.close()
    client._server.patience = 0.2
    await client.call("PING")
    proxy.hold_answers()
    found = await asyncio.gather(
        *(client.call("PING") for _ in range(3)), return_exceptions=True
    )
    assert [type(error) for error in found] == [TimeoutError] * 3
    proxy.pass_answers()
    assert await client.call("PING") == b"PONG"


async def test_each_call_after_a_pause_has_all_of_these_seconds(
    client: Client, there: Redis
) -> None:
    client._server.patience = 0.6
    await client.call("PING")
    await asyncio.sleep(0.4)
    there.client_pause(350)
    assert await client.call("ECHO", "late") == b"late"


async def test_a_call_behind_a_look_at_the_role_has_its_seconds_too(
    client: Client, proxy: TcpProxy
) -> None:
    client._server.patience = 0.2
    await client.call("PING")
    assert client._connection is not None
    proxy.hold_answers()
    client._connection.look_now()
    with pytest.raises(TimeoutError):
        await client.call("PING")
    assert client._waiting == 0
    proxy.pass_answers()


async def test_calls_while_it_connects_share_the_try_and_its_error(
    client: Client, proxy: TcpProxy
) -> None:
    await proxy.cut()
    calls = [client.call("PING") for _ in range(3)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, (ConnectionError, OSError)) for error in found)
    await proxy.mend()
    assert await client.call("PING") == b"PONG"


async def test_a_cancelled_call_leaves_the_try_to_the_others(client: Client) -> None:
    one, two = (asyncio.ensure_future(client.call("PING")) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    assert await two == b"PONG"
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_what_waits_for_a_connection_that_is_closed_fails(client: Client) -> None:
    calling = asyncio.ensure_future(client.call("PING"))
    while client._connecting is None:
        await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ConnectionError, match="closed"):
        await calling
    assert await client.call("PING") == b"PONG"


async def test_an_error_of_a_replica_ends_the_connection_to_it(
    tmp_path: Path,
) -> None:
    with servers.redis(tmp_path) as server, Redis(port=server.port) as there:
        client = Client(Server({"host": "127.0.0.1", "port": server.port}, 5))
        await client.call("PING")
        there.replicaof("127.0.0.1", 1)
        with pytest.raises(ResponseError, match="READONLY"):
            await client.call("SET", "a", "b")
        with pytest.raises(ConnectionError, match="not a primary"):
            await client.call("GET", "a")
        there.replicaof("NO", "ONE")
        assert await client.call("SET", "a", "b") == b"OK"
        await client.close()


@pytest.mark.parametrize(
    "text",
    [
        "READONLY You can't write against a read only replica.",
        "ERR Error running script: @user_script:3: -OOM command not allowed",
        "BUSY Redis is busy running a script.",
    ],
)
def test_errors_of_a_server_that_does_not_serve_now_are_known(text: str) -> None:
    assert is_away(ResponseError(text))
    assert not is_away(ResponseError("WRONGTYPE not for a BUSYBODY"))
