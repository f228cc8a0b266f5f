"""A site with one process, and the doctor who looks at it."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command

from phx_protocol.management.doctor import Site, own_origin, parse_mount
from tests.support import servers

APPLICATION = "tests.management.doctor.asgi:application"


class Report(NamedTuple):
    """The exit code and the output of the command."""

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
    settings = {"DJANGO_SETTINGS_MODULE": "tests.management.doctor.settings"}
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
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One process, whose layer is in memory."""
    with uvicorn(tmp_path_factory.mktemp("alone") / "log") as server:
        yield server


@pytest.fixture
def mount(alone: servers.Server) -> str:
    """The URL of one process, without a mount."""
    return f"http://{alone.address}"


def faults(*args: str) -> list[dict[str, str]]:
    """Return the faults that the checks find in this process."""
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("phx_doctor", *args, "--no-layer", "--json", stdout=out)
    return [f for f in json.loads(out.getvalue()) if f["status"] == "fault"]


def site(url: str, **values: Any) -> Site:
    mount = parse_mount(url)
    return Site(mount, own_origin(mount), **values)


@contextlib.contextmanager
def answering(
    date: float, status: int = 404, body: bytes = b"", **headers: str
) -> Iterator[str]:
    """A server that answers every request so, with this time in its header Date."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(date, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
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
