"""Which state a project has: what its settings say, and what they leave to the channel layer."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.test import override_settings
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from phx_protocol.exceptions import StateError
from phx_protocol.state import State, get_state
from phx_protocol.state.factory import _memories
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import RedisState
from tests.support import servers

IN_MEMORY = "channels.layers.InMemoryChannelLayer"
LAYERS = {
    "redis": "phx_protocol.layers.RedisLayer",
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
#: the forms in which channels_redis takes a host
FORMS: dict[str, Any] = {
    "url": lambda host, port: f"redis://{host}:{port}/0",
    "tuple": lambda host, port: (host, port),
    "list": lambda host, port: [host, port],
    "dict of url": lambda host, port: {"address": f"redis://{host}:{port}/0"},
    "dict": lambda host, port: {"host": host, "port": port, "db": 0},
}
NOBODY = "redis://127.0.0.1:1/0"


class OwnLayer(RedisChannelLayer):  # type: ignore[misc]
    pass


@contextmanager
def project(
    state: Any = "auto", layer: str = IN_MEMORY, alias: str = "default", **config: Any
) -> Iterator[None]:
    """A project with the setting STATE and one channel layer."""
    phx = {"STATE": state, "CHANNEL_LAYER": alias}
    layers = {alias: {"BACKEND": layer, "CONFIG": config}}
    with override_settings(PHX_PROTOCOL=phx, CHANNEL_LAYERS=layers):
        yield


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """The state in memory is not that of another test."""
    _memories.clear()
    yield
    _memories.clear()


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def used(state: State) -> RedisState:
    """`state`, which is in Redis, after a step that leaves a key there."""
    assert isinstance(state, RedisState)
    await state.open("topic", 60)
    await state.close()
    return state


async def used_in(redis: Redis, prefix: str) -> bool:
    """Whether there are keys, and all of them begin so."""
    names = await redis.keys(f"{prefix[:16]}*")
    form = rf"{re.escape(prefix)}2:{{\w+}}(generation|[0-9]+\.[0-9a-f]{{4}}:(head:topic|author:\w+))"
    return len(names) >= 4 and all(re.fullmatch(form, name) for name in names)


# -------------------------------------------------------------------------------- memory


def test_without_redis_it_is_in_memory() -> None:
    with project():
        assert isinstance(get_state(), MemoryState)
    with override_settings(PHX_PROTOCOL={}, CHANNEL_LAYERS={}):
        assert isinstance(get_state(), MemoryState)


def test_memory_may_be_chosen_though_the_layer_is_in_redis() -> None:
    for chosen in ("memory", {"BACKEND": "memory", "HOSTS": [NOBODY]}):
        with project(chosen, LAYERS["core"], hosts=[NOBODY]):
            assert isinstance(get_state(), MemoryState)


def test_the_event_loops_of_a_process_share_their_memory() -> None:
    beaten, looked = threading.Event(), threading.Event()
    seen: list[Any] = []

    async def beat() -> None:
        assert await get_state().beat("a1", {"thread": 1}, first=True)
        beaten.set()
        await asyncio.to_thread(looked.wait, 10)

    async def look() -> None:
        await asyncio.to_thread(beaten.wait, 10)
        seen.append(await get_state().nodes())
        looked.set()

    with project():
        threads = [
            threading.Thread(target=asyncio.run, args=[f()]) for f in (beat, look)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [{"a1": {"thread": 1}}]


class SlowState(MemoryState):
    """One that another thread can overtake while it is made."""

    def __init__(self, *args: Any) -> None:
        time.sleep(0.1)
        super().__init__(*args)


def test_event_loops_that_begin_at_once_share_their_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("phx_protocol.state.factory.MemoryState", SlowState)
    barrier = threading.Barrier(2)
    found: list[State] = []

    def begin() -> None:
        barrier.wait()
        found.append(get_state())

    with project():
        threads = [threading.Thread(target=begin) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found[0] is found[1]


def test_a_forked_process_has_a_memory_of_its_own() -> None:
    with project():
        mine = get_state()
        pid = os.fork()
        if not pid:
            os._exit(42 if get_state() is not mine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
        assert get_state() is mine


# ----------------------------------------------------------------------------------- Redis


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", FORMS)
async def test_it_is_where_the_channel_layer_is(
    layer: str, form: str, redis: Redis, redis_url: str, prefix: str
) -> None:
    at = urlsplit(redis_url)
    host = FORMS[form](at.hostname, at.port)
    with project("auto", LAYERS[layer], hosts=[host], prefix=prefix):
        get_channel_layer()  # it takes this form
        await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


@pytest.mark.parametrize("layer", LAYERS)
def test_its_keys_begin_with_the_prefix_of_the_layer_by_default(
    layer: str,
) -> None:
    with project("auto", LAYERS[layer], hosts=[NOBODY]):
        state = get_state()
        assert isinstance(state, RedisState)
        assert state._prefix == "asgi:phx:"


@pytest.mark.parametrize("layer", LAYERS)
async def test_it_is_found_by_sentinels(
    layer: str, redis: Redis, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with sentinel(tmp_path, urlsplit(redis_url).port or 0) as server:
        host = {"sentinels": [("127.0.0.1", server.port)], "master_name": "primary"}
        with project("auto", LAYERS[layer], hosts=[host], prefix=prefix):
            state = await used(get_state())
    assert isinstance(state._client._server._pool, SentinelConnectionPool)
    assert await used_in(redis, f"{prefix}:phx:")


@contextmanager
def sentinel(directory: Path, port: int) -> Iterator[servers.Server]:
    """A Sentinel that watches the Redis on `port`."""
    own = servers.free_port()
    conf = directory / "sentinel.conf"
    conf.write_text(
        f"port {own}\nbind 127.0.0.1\nsentinel monitor primary 127.0.0.1 {port} 1\n"
    )
    args = ["redis-server", str(conf), "--sentinel"]
    with servers.run(args, own, directory / "sentinel.log") as running:
        yield running


async def test_a_layer_of_the_projects_own_counts_when_it_comes_from_channels_redis(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    with project("auto", f"{__name__}.OwnLayer", hosts=[redis_url], prefix=prefix):
        await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


async def test_the_layer_is_the_one_that_carries_broadcasts(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    config = {"hosts": [redis_url], "prefix": prefix}
    with project("auto", LAYERS["pubsub"], "phx", **config):
        await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


async def test_of_several_hosts_the_first_is_used(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    for hosts in ([redis_url, NOBODY], [{"address": redis_url}, NOBODY]):
        with project("redis", LAYERS["core"], hosts=hosts, prefix=prefix):
            await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["auto", "redis"])
async def test_it_may_have_hosts_of_its_own(
    name: str, form: str, redis: Redis, redis_url: str, prefix: str
) -> None:
    at = urlsplit(redis_url)
    hosts = [FORMS[form](at.hostname, at.port)]
    state = {"BACKEND": name, "HOSTS": hosts, "PREFIX": f"{prefix}/"}
    with project(state):
        await used(get_state())
    with project(state, LAYERS["core"], hosts=[NOBODY]):
        await used(get_state())
    assert await used_in(redis, f"{prefix}/")


async def test_with_hosts_of_its_own_it_still_begins_its_keys_as_the_layer(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    with project({"HOSTS": [redis_url]}, LAYERS["core"], hosts=[NOBODY], prefix=prefix):
        await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


@pytest.mark.parametrize("name", ["auto", "redis"])
@pytest.mark.parametrize(
    "none",
    [None, []],
)
async def test_no_hosts_of_its_own_are_those_of_the_layer(
    name: str, none: Any, redis: Redis, redis_url: str, prefix: str
) -> None:
    state = {"BACKEND": name, "HOSTS": none, "TIMEOUT": 0.2}
    with project(state, LAYERS["core"], hosts=[redis_url], prefix=prefix):
        await used(get_state())
    assert await used_in(redis, f"{prefix}:phx:")


def test_redis_without_any_hosts_is_an_error() -> None:
    for chosen in ("redis", {"BACKEND": "redis", "PREFIX": "p"}):
        with project(chosen), pytest.raises(StateError, match="HOSTS"):
            get_state()
    with override_settings(PHX_PROTOCOL={"STATE": "redis"}, CHANNEL_LAYERS={}):
        with pytest.raises(StateError, match="HOSTS"):
            get_state()


def test_each_call_makes_a_connection_of_its_own_to_redis() -> None:
    with project("auto", LAYERS["core"], hosts=[NOBODY]):
        one, two = get_state(), get_state()
    assert isinstance(one, RedisState) and isinstance(two, RedisState)
    assert one._client is not two._client


async def test_the_hosts_of_the_project_are_left_as_they_are(redis_url: str) -> None:
    host = {"address": redis_url, "client_name": "the-projects"}
    with project("auto", LAYERS["core"], hosts=[host]):
        await used(get_state())
    assert host == {"address": redis_url, "client_name": "the-projects"}


# ------------------------------------------------------------------------ LEASE and TIMEOUT


def test_the_lease_is_that_of_the_settings() -> None:
    for state in ({"LEASE": 8.0}, {"LEASE": 8.0, "HOSTS": [NOBODY]}):
        with project(state):
            found = get_state()
            assert (found.lease, found.beat_every, found.silence) == (8.0, 2.0, 6.0)
    with project():
        assert get_state().lease == 30.0


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """The port of a server that never says anything."""
    gone = asyncio.Event()

    async def say_nothing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    gone.set()


async def seconds_to_fail(state: State, limit: float) -> float:
    began = time.monotonic()
    with pytest.raises(StateError):
        async with asyncio.timeout(limit):
            await state.open("topic", 60)
    await state.close()
    return time.monotonic() - began


async def test_redis_has_so_many_seconds_for_an_answer(silent: int) -> None:
    for host in (("127.0.0.1", silent), f"redis://127.0.0.1:{silent}/0"):
        with project({"HOSTS": [host], "TIMEOUT": 0.2}):
            # there are two tries
            assert 0.2 <= await seconds_to_fail(get_state(), 5) < 2


async def test_a_host_may_have_a_timeout_of_its_own(silent: int) -> None:
    url = f"redis://127.0.0.1:{silent}/0?socket_timeout=0.1"
    for host in (url, {"host": "127.0.0.1", "port": silent, "socket_timeout": 0.1}):
        with project({"HOSTS": [host], "TIMEOUT": 60}):
            assert 0.1 <= await seconds_to_fail(get_state(), 5) < 2


async def test_sentinels_have_so_many_seconds_for_an_answer(silent: int) -> None:
    host = {"sentinels": [("127.0.0.1", silent)], "master_name": "primary"}
    with project({"HOSTS": [host], "TIMEOUT": 0.2}):
        assert await seconds_to_fail(get_state(), 3) < 2


async def test_sentinels_that_are_gone_are_an_error_at_once() -> None:
    host = {"sentinels": [("127.0.0.1", 1)], "master_name": "primary"}
    with project({"HOSTS": [host], "TIMEOUT": 0.2}):
        assert await seconds_to_fail(get_state(), 3) < 2
