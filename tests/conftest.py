from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.db import connections
from hypothesis import HealthCheck, settings
from redis import Redis

from phx_protocol.concurrency import garbage
from phx_protocol.logs import loggers as logs
from phx_protocol.node.part import PARTS
from phx_protocol.revocations.index import Revocations
from phx_protocol.state import factory
from tests.packaging import wheel
from tests.support import marks, servers
from tests.support.redis_cluster import RedisCluster, redis_cluster

#: files that take minutes: whichever came last would keep one worker busy while the others wait
LONG = (
    "tests/soak/",
    "tests/conformance/",
    "tests/browser/",
    "tests/management/doctor/",
)


WATCH = marks.Watch()
#: whether the database of the tests is a server, which the first test that needs it starts
ON_SERVER = os.environ.get("PHX_TEST_DATABASE") == "postgresql"
#: where the async ORM works
DJANGOS_THREAD = SyncToAsync.single_thread_executor

# how fast examples are made and run says something of the machine only
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)  # before ``-m`` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        has_database = marks.needs_database(item)
        if has_database:
            item.add_marker(marks.DATABASE)
        if has_database and ON_SERVER or marks.needs_process(item):
            item.add_marker(marks.PROCESS)
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    WATCH.item = item
    try:
        return (yield)
    finally:
        WATCH.item = None


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real redis-server for the whole run."""
    with servers.redis(tmp_path_factory.mktemp("redis")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def redis_url(_redis: str) -> Iterator[str]:
    """That server, empty: a process that another file has killed is on lease there for a while,
    and every command would wait for it."""
    with Redis.from_url(_redis) as redis:
        redis.flushall()
    yield _redis
    gc.collect()  # a connection that was left open is a warning here, not in another file


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
    """A real cluster of three primaries and three replicas: of Redis, or see ``ON_BOTH``."""
    program = getattr(request, "param", "redis-server")
    with redis_cluster(tmp_path_factory.mktemp("cluster"), program) as cluster:
        yield cluster
    gc.collect()


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A real PostgreSQL for the whole run, whose superuser is ``postgres``."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Start the server, and tell Django its port, before pytest-django makes the database there.

    Each worker has its own server: nothing of one outlives its worker.
    """
    if ON_SERVER:
        server: servers.Server = request.getfixturevalue("postgres")
        connections.settings["default"]["PORT"] = server.port


@pytest.fixture(autouse=True)
def _no_connection_stays() -> Iterator[None]:
    """The plugin closes those of tests with a client; also without one, async tests of a server's
    database leave one in that thread, and the last of them would keep the database.
    """
    yield
    if ON_SERVER:
        DJANGOS_THREAD.submit(connections.close_all).result(10)


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> wheel.Distribution:
    """The sdist and the wheel, built once for all workers of the run."""
    if not (servers.ROOT / ".git").exists():
        pytest.skip("only git knows what belongs into a distribution")
    own = tmp_path_factory.getbasetemp()
    # a worker's own directory is in that of the run
    return wheel.build(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_frozen() -> None:
    """A lifespan that starts in a test must not freeze what the tests have."""
    garbage._is_settled = True


@pytest.fixture(autouse=True)
def _nobody_asks_for_revocations() -> None:
    """The app is installed for its table; only tests/revocations let tokens ask it."""
    if Revocations in PARTS:  # again, after a test has loaded the apps anew
        PARTS.remove(Revocations)


@pytest.fixture(autouse=True)
def _a_fresh_log() -> None:
    """Suppress records only if the same test repeats them, not because of other tests."""
    logs._repeats._written.clear()


@pytest.fixture(autouse=True)
def _a_fresh_memory() -> None:
    """A test has a store of its own: the one in memory keeps the histories of topics for an hour,
    and other tests have other channels on them."""
    factory._memories.clear()
