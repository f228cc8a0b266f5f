"""django-tenants on a real PostgreSQL: the schema of a tenant lives on the database connection."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.integration.tenant_app:application"
TENANTS = {"one": "127.0.0.1", "two": "localhost"}

PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate_schemas", shared=True, verbosity=0)
from tests.integration.tenants.models import Domain, Tenant
for name, host in %r.items():
    tenant = Tenant.objects.create(schema_name=name)
    Domain.objects.create(domain=host, tenant=tenant)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A process with four threads for callbacks, and two tenants."""
    log = tmp_path_factory.mktemp("tenants") / "log"
    with servers.postgres() as postgres:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.integration.tenant_settings",
            "PHX_POSTGRES": str(postgres.port),
        }
        prepare = [sys.executable, "-c", PREPARE % TENANTS]
        environ = {**os.environ, **env}
        subprocess.run(prepare, cwd=servers.ROOT, env=environ, check=True, timeout=120)
        with servers.serve("frames", log, APPLICATION, **env) as running:
            yield running


def client(site: servers.Server, tenant: str) -> Client:
    return Client(f"ws://{TENANTS[tenant]}:{site.port}")


async def notes(site: servers.Server, tenant: str, times: int) -> None:
    """Write and read as a client of `tenant`, which sees nothing of the other one."""
    topic, seen = f"notes:{tenant}", {"schema": tenant, "whose": [tenant]}
    async with client(site, tenant) as one:
        status, reply = await one.join(topic)
        assert status == "ok" and set(reply["whose"]) <= {tenant}
        for n in range(times):
            text = {"text": f"{tenant} {n}"}
            assert await one.ask(topic, "add", text) == ("ok", seen)


async def test_two_tenants_in_parallel_see_only_their_own_beside_djangos_async_orm(
    site: servers.Server,
) -> None:
    async def count() -> None:
        async with Client(site.url, "/control") as control:
            await control.join("control")
            for _ in range(50):
                answer = await control.ask("control", "count")
                assert answer == ("ok", {"tenants": 2})

    await asyncio.gather(
        count(), *(notes(site, tenant, 25) for tenant in TENANTS for _ in range(8))
    )


async def test_a_tenants_topic_is_refused_to_another_ones_client(
    site: servers.Server,
) -> None:
    async with client(site, "one") as one:
        refused = "error", {"reason": "unauthorized"}
        assert await one.join("notes:two") == refused


async def test_who_goes_in_the_middle_of_a_callback_leaves_no_schema_behind(
    site: servers.Server,
) -> None:
    """Its callback is cancelled after SHUTDOWN_TIMEOUT, while its thread goes on."""
    for _ in range(2):
        for _ in range(4):  # all threads
            async with client(site, "one") as one:
                await one.join("notes:one")
                await one.push("notes:one", "slow", {"seconds": 1.5})
        await asyncio.gather(*(notes(site, "two", 2) for _ in range(4)))


def test_the_checks_find_nothing_in_this_site(site: servers.Server) -> None:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.integration.tenant_settings",
    }
    command = [sys.executable, "-m", "django", "check", "--tag", "phx_protocol"]
    ran = subprocess.run(
        command, cwd=servers.ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0 and "E017" not in ran.stderr
