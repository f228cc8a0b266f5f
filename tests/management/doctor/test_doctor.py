"""phx_doctor as a user runs it: at a site that is well, and at sites that each have one thing broken.

All are the same two uvicorn processes (or two without Redis) behind a real nginx, and are looked at
at once. What nginx has in its location is what docs/doctor.md says, but for what is broken.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.management.doctor.site import Report, doctor, uvicorn
from tests.support import servers

#: more than a poll's window, and than nginx takes for two processes that each are too late
IDLE = "5"
DOCS = (servers.ROOT / "docs/doctor.md").read_text()


def documented(block: str) -> str:
    """Return the lines of `block` in the configuration of nginx in the docs."""
    (config,) = re.findall(r"```nginx\n(.*?)```", DOCS, flags=re.S)
    (lines,) = re.findall(rf"{re.escape(block)} {{\n(.*?)\n *}}", config, flags=re.S)
    return re.sub("proxy_pass .*?;", "", lines)


HTTP = "map $http_upgrade $connection_upgrade {%s}" % documented(
    "map $http_upgrade $connection_upgrade"
)
WELL = documented("location /socket/") + "\n"


class Case(NamedTuple):
    """A site, and the check that names what is wrong with it, with a word of what mends it."""

    location: str
    check: str = ""
    change: str = ""
    layer: str = "redis"
    http: str = ""
    #: what the settings of the doctor have, where it is not what the site has
    db: str = "13"
    doctors_layer: str = "redis"


def but(text: str, new: str = "", of: str = WELL) -> str:
    """`of` with `new` in place of the line that has `text`."""
    assert text in of
    return re.sub(rf".*{re.escape(text)}.*", new, of)


CASES = {
    "well": Case(WELL),
    # the five of the issue
    "dead websocket": Case(but("Upgrade"), "websocket", "proxy_set_header Upgrade"),
    "buffering proxy": Case(
        but("proxy_buffering", "proxy_limit_rate 40;")
        + "proxy_buffer_size 256; proxy_buffers 4 256; proxy_busy_buffers_size 256;",
        "long-poll delay",
        "proxy_buffering off;",
    ),
    "wrong origin": Case(but("Host"), "origin", "proxy_set_header Host"),
    "short timeout": Case(
        but("proxy_read_timeout", "proxy_read_timeout 2s;"),
        "idle timeout, long-poll window",
        "proxy_read_timeout 75s;",
    ),
    "processes apart": Case(
        WELL, "long-poll connections", "RedisLayer", layer="memory"
    ),
    # and some more
    "caching proxy": Case(
        but("proxy_buffering", of=but("proxy_cache", "proxy_cache c;"))
        + "proxy_ignore_headers Cache-Control; proxy_cache_valid 200 10s;",
        "long-poll",
        "proxy_cache off;",
        http="proxy_cache_path cache keys_zone=c:1m;",
    ),
    "dropped subprotocol": Case(
        WELL + 'proxy_set_header Sec-WebSocket-Protocol "";',
        "subprotocol",
        "Sec-WebSocket-Protocol",
    ),
    "settings of another site": Case(
        WELL, "layer", "Run this with the settings of the site", db="14"
    ),
    "another layer on the same Redis": Case(
        WELL, "layer", "do not answer over the layer", doctors_layer="core"
    ),
}
BROKEN = [name for name in CASES if name != "well"]


@pytest.fixture(scope="module")
def site_url(redis_url: str) -> str:
    return redis_url.replace("/0", "/13")


@pytest.fixture(scope="module")
def processes(
    site_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[servers.Server]]]:
    """By their layer. Those in memory compress, as uvicorn does by default."""
    directory = tmp_path_factory.mktemp("processes")
    plain, env = ("--ws-per-message-deflate", "false"), {"PHX_REDIS_URL": site_url}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as pool:

        def start(name: str, *options: str, **env: str) -> Future[servers.Server]:
            server = uvicorn(directory / name, *options, **env)
            return pool.submit(stack.enter_context, server)

        redis = [start(name, *plain, **env) for name in ("a", "b")]
        memory = [start(name) for name in ("c", "d")]
        yield {
            "redis": [server.result() for server in redis],
            "memory": [server.result() for server in memory],
        }


@pytest.fixture(scope="module")
def reports(
    processes: dict[str, list[servers.Server]],
    site_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Report]:
    """The report of the doctor for every site in CASES."""
    directory = tmp_path_factory.mktemp("sites")

    def examine(name: str) -> Report:
        case, home = CASES[name], directory / name.replace(" ", "-")
        home.mkdir()
        lines = {"location": case.location, "http": HTTP + case.http}
        with servers.nginx(home, *processes[case.layer], **lines) as nginx:
            url = f"http://{nginx.address}/socket"
            if case.layer == "memory":
                return doctor(url, "--idle", IDLE, "--json")
            env = {
                "PHX_REDIS_URL": site_url.replace("/13", f"/{case.db}"),
                "PHX_LAYER": case.doctors_layer,
            }
            return doctor(url, "--idle", IDLE, "--json", **env)

    with ThreadPoolExecutor(len(CASES)) as pool:
        return dict(zip(CASES, pool.map(examine, CASES), strict=True))


def test_a_site_that_is_well_has_nothing_but_ok(reports: dict[str, Report]) -> None:
    report = reports["well"]
    assert report.of("warning", "fault", "skipped") == [], report.output
    assert len(report.of("ok")) == 22
    assert (report.code, report.errors) == (0, "")


@pytest.mark.parametrize("name", BROKEN)
def test_only_the_broken_parts_are_reported(
    reports: dict[str, Report], name: str
) -> None:
    case, report = CASES[name], reports[name]
    assert ", ".join(report.of("fault")) == case.check, report.output
    assert report.code == 1
    assert report.errors.endswith(f"at fault: {case.check}\n")
    changes = [f["change"] for f in report.findings if f["status"] == "fault"]
    assert all(case.change in change for change in changes)


def test_it_takes_no_longer_than_it_watches(reports: dict[str, Report]) -> None:
    (idle,) = [f for f in reports["well"].findings if f["check"] == "idle timeout"]
    assert f"open after {IDLE} s" in idle["message"]


def test_a_layer_in_memory_and_compression_are_warned_of(
    reports: dict[str, Report],
) -> None:
    assert reports["processes apart"].of("warning") == ["compression", "layer"]
