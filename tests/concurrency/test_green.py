"""Workers whose threads are green: gevent, eventlet, and Celery with either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.ws_client import Client

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.integration.views_settings"}
PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
WORKER = """
import threading, time
import django
django.setup()
from django.db import connection
from phx_protocol import Presence, broadcast, disconnect_user
from tests.integration.views_app import RoomPresence

def tell(n):
    broadcast("room:1", "news", {"n": n})
    with connection.cursor() as cursor:  # Django lets nobody do so on an event loop
        cursor.execute("select 1")

ticks = []
def tick():
    while True:
        ticks.append(1)
        time.sleep(0.001)
threading.Thread(target=tick, daemon=True).start()
for n in range(3):
    tell(n)
disconnect_user(7)
Presence.sync.track("room:1", "worker", {})
assert "worker" in Presence.sync.list("room:1")
assert "ada" in RoomPresence.sync.list("room:1")  # poorer: its fetch asks the ORM on a loop
threads = [threading.Thread(target=tell, args=[n]) for n in range(3, 20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(ticks) > 1, "it has held up the others"

from phx_protocol.node import blocking
import asyncio
try:
    blocking.run(asyncio.sleep(60), "sleep", "", timeout=0.05)
except TimeoutError as error:
    assert "sleep() was not done in 0.05 seconds" in str(error)
else:
    raise AssertionError("it waits for ever")
"""


@pytest.mark.parametrize(
    "green", ["gevent", pytest.param("eventlet", marks=pytest.mark.big)]
)
async def test_a_worker_with_green_threads_broadcasts(
    green: str, tmp_path: Path
) -> None:
    # its own: orders wait for servers that others have killed
    with servers.redis(tmp_path) as redis:
        redis_url = f"redis://127.0.0.1:{redis.port}/0"
        await expect_broadcasts(green, redis_url, tmp_path)


async def expect_broadcasts(green: str, redis_url: str, tmp_path: Path) -> None:
    env = {**SETTINGS, "PHX_REDIS_URL": redis_url}
    named = redis_url.replace("127.0.0.1", "localhost")
    application = "tests.integration.views_app:application"
    with servers.serve("uvicorn", tmp_path / "log", application, **env) as server:
        async with Client(server.url) as client:
            await client.join("room:1")
            await client.until("presence_diff")
            done = subprocess.run(
                [sys.executable, "-c", f"{PATCH[green]}\n{WORKER}"],
                # a name, which has to be looked up
                env={**os.environ, **env, "PHX_REDIS_URL": named},
                cwd=servers.ROOT,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            got = [(await client.until("news"))["n"] for _ in range(20)]
            assert sorted(got) == list(range(20))


@pytest.mark.big
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
async def test_a_celery_worker_with_green_threads_broadcasts(
    pool: str, tmp_path: Path
) -> None:
    with servers.redis(tmp_path) as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        database = tmp_path / "db.sqlite3"
        env = {**SETTINGS, "PHX_REDIS_URL": url, "PHX_DATABASE": str(database)}
        everything = {**os.environ, **env}
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity=0"],
            env=everything,
            cwd=servers.ROOT,
            check=True,
        )
        worker = [sys.executable, "-m", "celery", "-A", "tests.integration.celery_app"]
        application = "tests.integration.views_app:application"
        with (
            servers.serve("uvicorn", tmp_path / "log", application, **env) as server,
            # it listens on no port: the one of its broker is there
            servers.run(
                [*worker, "worker", "-P", pool, "-c", "5", "-l", "warning"],
                redis.port,
                tmp_path / "worker",
                **env,
            ) as running,
        ):
            async with Client(server.url) as client:
                await client.join("room:1")
                code = (
                    "from tests.integration.celery_app import tell\n"
                    "for n in range(10): tell.delay('room:1', n)"
                )
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=everything,
                    cwd=servers.ROOT,
                    check=True,
                )
                got = [(await client.until("news"))["n"] for _ in range(10)]
                assert sorted(got) == list(range(10)), running.logged()
            assert "Traceback" not in running.logged(), running.logged()
