"""Real servers for the tests: Redis, nginx, HAProxy, Daphne, uvicorn, hypercorn, granian, as users start them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFORMANCE = "tests.conformance.asgi:application"
PROTOCOL = "phx_protocol.contrib.uvicorn:PhoenixWebSocketProtocol"


#: ports that the system gives to no outgoing connection; each worker of a run has its own
FIRST_PORT, PORTS_OF_A_WORKER = 12_000, 2_000


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + worker * PORTS_OF_A_WORKER
    ports = list(range(first, first + PORTS_OF_A_WORKER))
    random.shuffle(ports)  # another run may go on beside this one
    return itertools.cycle(ports)


_next_ports = _ports()


def free_port() -> int:
    """Return a port that stays free until a server of this worker listens on it."""
    for port in _next_ports:
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle has no end")


def wait_for_port(
    port: int, process: subprocess.Popen[Any], seconds: float = 60
) -> None:
    """Wait until `process` takes connections on `port`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} does not listen on {port}")


def command(server: str, port: int, application: str = CONFORMANCE) -> list[str]:
    """The command line of `server`, run by this Python; "frames" is uvicorn with our --ws."""
    address = f"127.0.0.1:{port}"
    uvicorn = ["uvicorn", application, "--port", str(port), "--log-level", "warning"]
    options = {
        # of uvicorn's two HTTP parsers one each; by default it takes httptools if that is installed
        "uvicorn": [*uvicorn, "--http", "h11"],
        "frames": [*uvicorn, "--http", "httptools", "--ws", PROTOCOL],
        "daphne": ["daphne", "-b", "127.0.0.1", "-p", str(port), application],
        "hypercorn": ["hypercorn", application, "--bind", address],
        "granian": [
            *("granian", "--interface", "asgi", "--host", "127.0.0.1"),
            *("--port", str(port), application),
        ],
    }[server]
    return [sys.executable, "-m", *options]


#: a shell ignores them in what it runs in the background, and whatever that starts inherits it
TO_END = (signal.SIGINT, signal.SIGQUIT)


def _heed_signals() -> None:
    """In a child, before its program begins: what ends a program ends this one too."""
    for number in TO_END:
        signal.signal(number, signal.SIG_DFL)


_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def _end_with_this() -> None:
    """In a child: it ends with this process, even if that is killed."""
    _heed_signals()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def start(
    args: Sequence[str | Path],
    prepare: Callable[[], None] = _heed_signals,
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start `args` as ``subprocess.Popen`` does; signals end it, whatever this process ignores."""
    return subprocess.Popen(args, preexec_fn=prepare, **options)


async def start_async(*args: str | Path, **options: Any) -> asyncio.subprocess.Process:
    """Start `args` as ``asyncio.create_subprocess_exec`` does; signals end it all the same."""
    return await asyncio.create_subprocess_exec(
        *args, preexec_fn=_heed_signals, **options
    )


def python(
    code: str, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh process, from the project's root, and return what it printed.

    `env` is added to the environment of this process.
    """
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


class Server:
    """A running process and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://{self.address}"

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def connections(self) -> list[str]:
        """Return the open sockets of the process."""
        opened = Path(f"/proc/{self.process.pid}/fd")
        links = (link for link in opened.iterdir() if link.is_symlink())
        return [t for t in map(os.readlink, links) if t.startswith("socket:")]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def run(args: list[str], port: int, log: Path, **env: str) -> Iterator[Server]:
    """Start `args` from the project's root and stop it at the end."""
    # a server has its own settings, not those that pytest-django put into the environment
    inherited = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    with open(log, "ab") as output:
        process = start(
            args,
            cwd=ROOT,
            env={**inherited, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        wait_for_port(port, process)
        yield server
    except RuntimeError as error:
        raise RuntimeError(f"{error}: {server.logged()[-2000:]}") from error
    finally:
        server.stop()


@contextlib.contextmanager
def serve(
    server: str, log: Path, application: str = CONFORMANCE, **env: str
) -> Iterator[Server]:
    """`server` with `application` on a free port."""
    port = free_port()
    with run(command(server, port, application), port, log, **env) as running:
        yield running


@contextlib.contextmanager
def redis(
    directory: Path,
    port: int | None = None,
    *options: str,
    program: str = "redis-server",
) -> Iterator[Server]:
    """A redis-server that keeps nothing, on a free port; or another `program` like it."""
    port = port or free_port()
    args = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        *options,
    ]
    with run(
        [*args, "--dir", str(directory)], port, directory / f"redis-{port}.log"
    ) as running:
        yield running


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Debian's PostgreSQL with an empty cluster, whose superuser is ``postgres``, on a free port."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    # it refuses to run as root, and has no right in the folders of pytest
    as_user: dict[str, Any] = (
        {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    )
    with tempfile.TemporaryDirectory(prefix="phx-postgres-") as folder:
        if as_user:
            shutil.chown(folder, "postgres", "postgres")
        data, port = f"{folder}/data", free_port()
        initdb = f"{programs}/initdb -D {data} -A trust -U postgres --no-sync"
        subprocess.run(
            initdb.split(),
            check=True,
            capture_output=True,
            cwd=folder,
            **as_user,
        )
        postgres = f"{programs}/postgres -D {data} -p {port} -k {folder}"
        process = start(
            [*postgres.split(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            prepare=_end_with_this,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **as_user,
        )
        server = Server(process, port, Path(os.devnull))
        try:
            wait_for_port(port, process)
            yield server
        finally:
            server.stop(signal.SIGINT)  # it ends its connections


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
    upstream processes {{
        {upstreams}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://processes;
            {location}
            add_header x-upstream $upstream_addr always;  # who answered, the last of several
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(
    directory: Path,
    *upstreams: Server,
    location: str = "",
    http: str = "",
    server: str = "",
    upstream: str = "",
) -> Iterator[Server]:
    """An nginx that sends request after request to the next of `upstreams`, as it does unless configured
    otherwise: nothing is sticky. One process in the foreground, with the rights of the test.

    `location`, `http` and `upstream` are lines of its configuration, for these blocks; `server` are
    parameters of every upstream.
    """
    port = free_port()
    home = directory / f"nginx-{port}"
    home.mkdir()
    listed = "\n        ".join(
        f"server 127.0.0.1:{s.port} {server};" for s in upstreams
    )
    listed = f"{upstream}\n        {listed}"
    text = NGINX.format(port=port, upstreams=listed, location=location, http=http)
    (home / "nginx.conf").write_text(text)
    # Debian keeps it where only root's PATH leads
    executable = shutil.which("nginx") or "/usr/sbin/nginx"
    args = [executable, "-p", str(home), "-c", "nginx.conf", "-e", "stderr"]
    with run(args, port, home / "log") as running:
        yield running


HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend site
    bind 127.0.0.1:{port}
    default_backend processes
    http-response set-header x-upstream %si:%sp  # who answered
backend processes
    {backend}
    {listed}
"""


@contextlib.contextmanager
def haproxy(
    directory: Path, *upstreams: Server, backend: str = "", server: str = ""
) -> Iterator[Server]:
    """An HAProxy in front of `upstreams`. `backend` are lines of that block, `server` are parameters of
    every upstream. It logs when an upstream goes or comes."""
    port = free_port()
    home = directory / f"haproxy-{port}"
    home.mkdir()
    listed = "\n    ".join(f"server {s.port} {s.address} {server}" for s in upstreams)
    text = HAPROXY.format(port=port, backend=backend, listed=listed)
    (home / "haproxy.cfg").write_text(text)
    # Debian keeps it where only root's PATH leads
    executable = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with run([executable, "-db", "-f", str(home)], port, home / "log") as running:
        yield running
