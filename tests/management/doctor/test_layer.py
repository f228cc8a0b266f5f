"""The checks of the channel layer, and of the Redis that has the state."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from django.test import override_settings

from phx_protocol.management.doctor import layer
from phx_protocol.management.doctor.findings import Status, Verdict
from tests.management.doctor.site import alone, doctor, mount, site
from tests.support import servers
from tests.support.commands import on_bus
from tests.support.redis_cluster import RedisCluster

__all__ = ["alone", "mount"]


def test_a_redis_that_is_not_there_is_said_so(mount: str) -> None:
    nowhere = f"redis://127.0.0.1:{servers.free_port()}/0"
    args = (f"{mount}/socket", "--idle", "0.5", "--json")
    report = doctor(*args, PHX_REDIS_URL=nowhere)
    for check in ("layer", "state"):
        (found,) = [f for f in report.findings if f["check"] == check]
        assert found["status"] == "fault"
        assert "Does Redis run" in found["change"]


def test_middleware_that_hides_the_server_is_a_warning(
    tmp_path: Path, redis_url: str
) -> None:
    url = redis_url.replace("/0", "/11")
    env = {
        "PHX_REDIS_URL": url,
        "DJANGO_SETTINGS_MODULE": "tests.management.doctor.settings",
    }
    application = "tests.management.doctor.hidden_asgi:application"
    with servers.serve("daphne", tmp_path / "log", application, **env) as server:
        args = (f"http://{server.address}/socket", "--idle", "0.5", "--json")
        report = doctor(*args, PHX_REDIS_URL=url)
    (layer,) = [f for f in report.findings if f["check"] == "layer"]
    assert layer["status"] == "warning" and "hiding" in layer["message"]
    assert "wraps `send`" in layer["change"]


def test_over_the_local_bus_all_answer_but_share_no_state(tmp_path: Path) -> None:
    def look(server: servers.Server) -> dict[str, str]:
        args = (f"http://{server.address}/socket", "--idle", "0.5", "--json")
        report = doctor(*args, **env)
        (found,) = [f for f in report.findings if f["check"] == "layer"]
        return found

    with on_bus() as bus:
        env = {**bus, "DJANGO_SETTINGS_MODULE": "tests.conformance.settings"}
        with servers.serve("uvicorn", tmp_path / "one", **env) as one:
            alone = look(one)
            with servers.serve("uvicorn", tmp_path / "two", **env) as two:
                beside = look(two)
    assert alone["status"] == "ok" and "1 of 1 processes answer" in alone["message"]
    assert beside["status"] == "warning" and "RedisLayer" in beside["change"]
    assert "2 of 2 processes answer" in beside["message"]
    assert "histories of its own" in beside["message"]


# ------------------------------------------------------------------- the Redis of the state


async def verdict_of(directory: Path, *options: str, user: str = "") -> Verdict:
    with servers.redis(directory, None, *options) as server:
        hosts = [f"redis://{user}127.0.0.1:{server.port}/0"]
        state = {"BACKEND": "redis", "HOSTS": hosts, "PREFIX": "p:"}
        with override_settings(PHX_PROTOCOL={"STATE": state}, CHANNEL_LAYERS={}):
            return await layer.state(site("http://127.0.0.1:1/socket"))


async def test_a_redis_that_does_all_and_evicts_nothing_is_well(tmp_path: Path) -> None:
    verdict = await verdict_of(tmp_path)
    assert verdict.status is Status.OK and "evicts nothing" in verdict.message


async def test_each_of_several_servers_is_looked_at(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        evicts = "--maxmemory-policy", "allkeys-lru"
        ports = [
            stack.enter_context(servers.redis(tmp_path, None, *options)).port
            for options in ((), evicts, ())
        ]
        hosts = [f"redis://127.0.0.1:{port}/0" for port in ports]
        with override_settings(PHX_PROTOCOL={"STATE": {"HOSTS": hosts}}):
            verdict = await layer.state(site("http://127.0.0.1:1/socket"))
    assert verdict.status is Status.WARNING and "noeviction" in verdict.change
    for port, said in zip(ports, ("evicts nothing", "allkeys-lru", "evicts nothing")):
        assert re.search(
            rf":{port}/0: [^;]*{said}[^;]*, \d+\.\d ms away", verdict.message
        )


async def test_a_node_of_a_cluster_is_told_from_a_server(cluster: RedisCluster) -> None:
    async def verdict(url: str) -> Verdict:
        state = {"BACKEND": "redis", "HOSTS": [url], "PREFIX": "p:"}
        with override_settings(PHX_PROTOCOL={"STATE": state}, CHANNEL_LAYERS={}):
            return await layer.state(site("http://127.0.0.1:1/socket"))

    as_server = await verdict(f"redis://127.0.0.1:{cluster.ports[0]}")
    assert as_server.status is Status.FAULT
    assert "begins with redis+cluster://" in as_server.message
    as_cluster = await verdict(cluster.url)
    assert as_cluster.status is Status.OK


async def test_a_redis_that_evicts_keys_is_warned_of(tmp_path: Path) -> None:
    verdict = await verdict_of(tmp_path, "--maxmemory-policy", "volatile-lru")
    assert verdict.status is Status.WARNING
    assert "volatile-lru" in verdict.message and "noeviction" in verdict.change


async def test_each_command_that_redis_does_not_do_is_named(tmp_path: Path) -> None:
    options = ("--rename-command", "XADD", "", "--rename-command", "SPOP", "")
    verdict = await verdict_of(tmp_path, *options)
    assert verdict.status is Status.FAULT
    assert "XADD (" in verdict.message and "SPOP (" in verdict.message
    assert "ZADD" not in verdict.message


async def test_a_redis_that_forbids_config_get_is_ok(
    tmp_path: Path,
) -> None:
    user = "user default on >secret ~* &* +@all -@dangerous"
    (tmp_path / "acl.conf").write_text(user)
    options = ("--aclfile", str(tmp_path / "acl.conf"))
    verdict = await verdict_of(tmp_path, *options, user="default:secret@")
    assert verdict.status is Status.OK and "does not say" in verdict.message


async def test_a_state_in_memory_needs_no_redis() -> None:
    with override_settings(PHX_PROTOCOL={"STATE": "memory"}, CHANNEL_LAYERS={}):
        verdict = await layer.state(site("http://127.0.0.1:1/socket"))
    assert verdict == Verdict(Status.OK, "in memory, by these settings")
