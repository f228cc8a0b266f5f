"""phx_doctor as a user runs it: at a site that is well, and at sites that each have one thing broken.

All are the same two uvicorn processes (or two without Redis) behind a real nginx, and are looked at
at once. What nginx has in its location is what docs/doctor.md says, but for what is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from phx_protocol.management.doctor import (
    Site,
    clock,
    layer,
    longpoll,
    own_origin,
    parse_mount,
    slow,
    websocket,
)
from phx_protocol.management.doctor.findings import Status, Verdict
from tests import servers

APPLICATION = "tests.doctor.asgi:application"
#: more than a poll's window, and than nginx takes for two processes that each are too late
IDLE = "5"
DOCS = (servers.ROOT / "docs/doctor.md").read_text()


def documented(block: str) -> str:
    """What stands between the braces of `block` in the configuration of nginx in the docs."""
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
    layer: str = "pubsub"
    http: str = ""
    #: what the settings of the doctor have, where it is not what the site has
    db: str = "13"
    doctors_layer: str = "pubsub"


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
        WELL, "long-poll connections", "channels_redis", layer="memory"
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


class Report(NamedTuple):
    """How the command ended and what it wrote."""

    code: int
    output: str
    errors: str

    @property
    def findings(self) -> list[dict[str, str]]:
        return list(json.loads(self.output))

    def of(self, *statuses: str) -> list[str]:
        return [f["check"] for f in self.findings if f["status"] in statuses]


def doctor(*args: str, **env: str) -> Report:
    """``phx_doctor`` in a process of its own, with the settings of the site but for `env`."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.doctor.settings"}
    done = subprocess.run(
        [sys.executable, "-m", "django", "phx_doctor", *args],
        cwd=servers.ROOT,
        env={**os.environ, **settings, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Report(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def uvicorn(log: Path, *options: str, **env: str) -> Iterator[servers.Server]:
    port = servers.free_port()
    args = [*servers.command("uvicorn", port, APPLICATION), *options]
    with servers.run(args, port, log, **env) as server:
        yield server


@pytest.fixture(scope="module")
def site_url(redis_url: str) -> str:
    return redis_url.replace("/0", "/13")


@pytest.fixture(scope="module")
def processes(
    site_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[servers.Server]]]:
    """By their layer. Those in memory compress, as uvicorn does unless told otherwise."""
    directory = tmp_path_factory.mktemp("processes")
    plain, env = ("--ws-per-message-deflate", "false"), {"PHX_REDIS_URL": site_url}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as pool:

        def start(name: str, *options: str, **env: str) -> Future[servers.Server]:
            server = uvicorn(directory / name, *options, **env)
            return pool.submit(stack.enter_context, server)

        redis = [start(name, *plain, **env) for name in ("a", "b")]
        memory = [start(name) for name in ("c", "d")]
        yield {
            "pubsub": [server.result() for server in redis],
            "memory": [server.result() for server in memory],
        }


@pytest.fixture(scope="module")
def reports(
    processes: dict[str, list[servers.Server]],
    site_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Report]:
    """What the doctor says of every site in CASES."""
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
    assert len(report.of("ok")) == 20
    assert (report.code, report.errors) == (0, "")


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_and_nothing_else(
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


# ------------------------------------------------------------------ the command


@pytest.fixture
def mount(processes: dict[str, list[servers.Server]]) -> str:
    """The URL of one process, without a mount."""
    return f"http://{processes['memory'][0].address}"


def test_the_report_is_for_people(mount: str) -> None:
    report = doctor(f"{mount}/new", "--idle", "0.5", "--no-layer", "--no-color")
    lines = report.output.splitlines()
    assert lines[0] == "ok       websocket              upgraded with 101"
    (at,) = [i for i, line in enumerate(lines) if line.startswith("fault")]
    assert lines[at].split()[:3] == ["fault", "vsn", "1.0.0"]
    assert lines[at + 1].startswith("           Clients of that version")
    (layer,) = [line for line in lines if line.split()[1] == "layer"]
    assert layer.split() == ["skipped", "layer", "not", "asked", "for"]


def test_colours_say_how_bad_it_is(mount: str) -> None:
    report = doctor(f"{mount}/open", "--idle", "0.5", "--force-color")
    assert "\x1b[32;1mok " in report.output
    assert "\x1b[33;1mwarning " in report.output


def faults(*args: str) -> list[dict[str, str]]:
    """What is at fault, asked for in this process."""
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("phx_doctor", *args, "--no-layer", "--json", stdout=out)
    return [f for f in json.loads(out.getvalue()) if f["status"] == "fault"]


def test_connect_parameters_and_tokens_are_passed_on(mount: str) -> None:
    args = (f"{mount}/guarded", "--idle", "0.5")
    assert [f["check"] for f in faults(*args)] == ["websocket"]
    assert not faults(*args, "--param", "token=good", "--param", "a=b c")
    assert not faults(*args, "--auth-token", "good")


def test_a_site_that_is_not_there_is_said_so() -> None:
    found = faults(f"ws://127.0.0.1:{servers.free_port()}/socket")
    assert [f["check"] for f in found] == ["websocket", "long-poll"]
    assert "There is no answer" in found[0]["change"]


def test_a_redis_that_is_not_there_is_said_so(mount: str) -> None:
    nowhere = f"redis://127.0.0.1:{servers.free_port()}/0"
    args = (f"{mount}/socket", "--idle", "0.5", "--json")
    report = doctor(*args, PHX_REDIS_URL=nowhere)
    for check in ("layer", "state"):
        (found,) = [f for f in report.findings if f["check"] == check]
        assert found["status"] == "fault"
        assert "Does Redis run" in found["change"]


def test_settings_that_are_no_good_do_not_stop_the_other_checks(mount: str) -> None:
    out, layers = io.StringIO(), {"default": {"BACKEND": "no.such.Layer"}}
    with override_settings(CHANNEL_LAYERS=layers), pytest.raises(CommandError):
        call_command(
            "phx_doctor", f"{mount}/socket", "--idle=0.5", "--json", stdout=out
        )
    found = {f["check"]: f for f in json.loads(out.getvalue())}
    for check in ("layer", "state"):
        assert "no.such.Layer" in found.pop(check)["message"]
    assert {f["status"] for f in found.values()} <= {"ok", "warning"}


@pytest.mark.parametrize(
    "args, said",
    [
        (["example.com/socket"], "a URL such as https://example.com/socket is wanted"),
        (["http://a:b/socket"], "Port could not be cast"),
        (["http://a/socket", "--param", "token"], "--param takes NAME=VALUE"),
        (["http://a/socket", "--idle", "0"], "--idle takes seconds above 0"),
    ],
)
def test_bad_arguments_are_refused(args: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        call_command("phx_doctor", *args)


def test_the_library_that_it_needs_is_named() -> None:
    code = (
        "import sys; sys.modules['websockets'] = None\n"
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'phx_doctor', 'http://a/socket'])"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.doctor.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=servers.ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "pip install phx_protocol[doctor]" in done.stderr


# ------------------------------------------------------------ one check at a time


async def test_a_site_without_long_poll_is_no_fault(mount: str) -> None:
    verdict = await longpoll.opening(site(f"{mount}/guarded"))
    assert verdict.status is Status.SKIPPED
    assert 'PHX_PROTOCOL["LONGPOLL"] = True' in verdict.change


def site(url: str, **values: Any) -> Site:
    mount = parse_mount(url)
    return Site(mount, own_origin(mount), **values)


@pytest.mark.parametrize("size, status", [(7000, "fault"), (3500, "warning")])
async def test_a_token_that_is_too_long_for_the_server_is_found(
    mount: str, size: int, status: str
) -> None:
    verdict = await websocket.token_size(site(f"{mount}/open", auth_token="x" * size))
    assert verdict.status is Status(status)
    assert "WEBSOCKETS_MAX_LINE_LENGTH" in verdict.change


async def test_a_token_that_is_refused_has_come_through(mount: str) -> None:
    verdict = await websocket.token_size(site(f"{mount}/guarded"))
    assert verdict.status is Status.OK
    (size,) = re.findall(r"about (\d+)", verdict.message)
    assert 5500 < int(size) < 6100


def test_middleware_that_hides_the_server_is_a_warning(
    tmp_path: Path, redis_url: str
) -> None:
    url = redis_url.replace("/0", "/11")
    env = {"PHX_REDIS_URL": url, "DJANGO_SETTINGS_MODULE": "tests.doctor.settings"}
    application = "tests.doctor.hidden_asgi:application"
    with servers.serve("daphne", tmp_path / "log", application, **env) as server:
        args = (f"http://{server.address}/socket", "--idle", "0.5", "--json")
        report = doctor(*args, PHX_REDIS_URL=url)
    (layer,) = [f for f in report.findings if f["check"] == "layer"]
    assert layer["status"] == "warning" and "hiding" in layer["message"]
    assert "wraps `send`" in layer["change"]


async def test_a_site_that_lets_foreign_pages_in_is_warned(mount: str) -> None:
    verdict = await websocket.foreign_origin(site(f"{mount}/open"))
    assert verdict.status is Status.WARNING
    assert "CHECK_ORIGIN" in verdict.change


async def test_a_site_that_is_impatient_itself_is_told_so(mount: str) -> None:
    verdict = await websocket.idle_timeout(site(f"{mount}/open", idle=5))
    assert verdict.status is Status.FAULT
    assert 'PHX_PROTOCOL["TIMEOUT"]' in verdict.change


@pytest.mark.parametrize(
    "lasted, code, status",
    [
        (29.9, 1006, Status.FAULT),
        (29.9, 1002, Status.FAULT),
        (30.1, 1006, Status.WARNING),
        (59.4, 1002, Status.WARNING),
        (59.9, 1006, Status.OK),  # nginx's default is 60, and begins before we do
        (60.1, 1002, Status.OK),
        (5.0, 1012, Status.WARNING),  # a restart
    ],
)
def test_a_silent_connection_should_live_for_a_minute(
    lasted: float, code: int, status: Status
) -> None:
    assert websocket.ended(lasted, code).status is status


async def test_a_token_of_our_own_invention_may_be_refused(mount: str) -> None:
    guarded = site(f"{mount}/guarded", params=(("token", "bad"),))
    verdict = await websocket.subprotocol(guarded)
    assert verdict.status is Status.SKIPPED
    assert "--auth-token" in verdict.change


@pytest.mark.parametrize(
    "url",
    ["http://a/s", "ws://a/s/", "http://a/s/websocket?vsn=1", "ws://a/s/longpoll"],
)
def test_a_mount_is_known_by_any_of_its_urls(url: str) -> None:
    assert site(url).websocket("2.0.0") == "ws://a/s/websocket?vsn=2.0.0"
    assert site(url).origin == "http://a"


@contextlib.asynccontextmanager
async def slowly(port: int, seconds: float) -> AsyncIterator[str]:
    """A proxy on the way to `port` that passes everything on after so many `seconds`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(seconds)
            writer.write(data)
        writer.close()

    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/socket"


@pytest.mark.parametrize("check", [websocket.delay, longpoll.delay])
async def test_a_proxy_that_holds_messages_back_is_found(
    processes: dict[str, list[servers.Server]],
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[Site], Awaitable[Verdict]],
) -> None:
    monkeypatch.setattr(slow, "ANSWER_WITHIN", 0.5)
    port = processes["memory"][0].port
    async with slowly(port, 0.01) as url:
        assert (await check(site(url))).status is Status.OK
    async with slowly(port, 0.3) as url:  # there and back
        with pytest.raises(slow.TooSlow, match="a proxy delays it"):
            await check(site(url))


@contextlib.contextmanager
def answering(date: float, status: int = 404, body: bytes = b"") -> Iterator[str]:
    """A server that answers every request so, with this time in its header Date."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(date, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/socket"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "off, said", [(0, "within 5 s"), (60, "60 s ahead"), (-60, "60 s behind")]
)
async def test_a_clock_that_is_off_is_said_so(off: float, said: str) -> None:
    with answering(time.time() + off) as url:
        verdict = await clock.skew(site(url))
    assert said in re.sub("(59|61) s", "60 s", verdict.message)
    assert (verdict.status is Status.OK) == (off == 0)


async def test_an_answer_that_is_none_of_long_poll_is_shown() -> None:
    with answering(0, 200, b"<html>Welcome!</html>") as url:
        with pytest.raises(longpoll.NoSession, match="answered 200 Welcome!"):
            await longpoll.opening(site(url))


# ------------------------------------------------------------------- the Redis of the state


async def told_of(directory: Path, *options: str, user: str = "") -> Verdict:
    with servers.redis(directory, None, *options) as server:
        hosts = [f"redis://{user}127.0.0.1:{server.port}/0"]
        state = {"BACKEND": "redis", "HOSTS": hosts, "PREFIX": "p:"}
        with override_settings(PHX_PROTOCOL={"STATE": state}, CHANNEL_LAYERS={}):
            return await layer.state(site("http://127.0.0.1:1/socket"))


async def test_a_redis_that_does_all_and_evicts_nothing_is_well(tmp_path: Path) -> None:
    verdict = await told_of(tmp_path)
    assert verdict.status is Status.OK and "evicts nothing" in verdict.message


async def test_a_redis_that_evicts_keys_is_warned_of(tmp_path: Path) -> None:
    verdict = await told_of(tmp_path, "--maxmemory-policy", "volatile-lru")
    assert verdict.status is Status.WARNING
    assert "volatile-lru" in verdict.message and "noeviction" in verdict.change


async def test_each_command_that_redis_does_not_do_is_named(tmp_path: Path) -> None:
    options = ("--rename-command", "XADD", "", "--rename-command", "SPOP", "")
    verdict = await told_of(tmp_path, *options)
    assert verdict.status is Status.FAULT
    assert "XADD (" in verdict.message and "SPOP (" in verdict.message
    assert "ZADD" not in verdict.message


async def test_a_redis_that_forbids_to_be_asked_is_well_as_far_as_is_known(
    tmp_path: Path,
) -> None:
    user = "user default on >secret ~* &* +@all -@dangerous"
    (tmp_path / "acl.conf").write_text(user)
    options = ("--aclfile", str(tmp_path / "acl.conf"))
    verdict = await told_of(tmp_path, *options, user="default:secret@")
    assert verdict.status is Status.OK and "forbids to ask" in verdict.message


async def test_a_state_in_memory_needs_no_redis() -> None:
    with override_settings(PHX_PROTOCOL={"STATE": "memory"}, CHANNEL_LAYERS={}):
        verdict = await layer.state(site("http://127.0.0.1:1/socket"))
    assert verdict == Verdict(Status.OK, "in memory, by these settings")
