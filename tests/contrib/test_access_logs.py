"""No secret of a URL stands in an access log, whichever server writes it."""

from __future__ import annotations

import copy
import datetime
import io
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from daphne.access import AccessLogGenerator
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.logging import AccessFormatter

from phx_protocol.contrib import access_logs
from phx_protocol.contrib.access_logs import FilterParameters, filter_url, install
from tests.support import servers
from tests.support.ws_client import Client

APPLICATION = "tests.contrib.asgi:application"
SECRET = "sesame"


# -------------------------------------------------------------------------- the text


@pytest.mark.parametrize(
    "text, masked",
    [
        (
            "/socket/websocket?vsn=2.0.0&token=sesame",
            "/socket/websocket?vsn=2.0.0&token=[FILTERED]",
        ),
        (
            "/socket/longpoll?vsn=2.0.0&token=sesame&",
            "/socket/longpoll?vsn=2.0.0&token=[FILTERED]&",
        ),
        ("/?token=sesame&a=1", "/?token=[FILTERED]&a=1"),
        ("/?user_token=sesame", "/?user_token=[FILTERED]"),
        ("/?authToken=sesame", "/?authToken=[FILTERED]"),
        ("/?a[token]=sesame", "/?a[token]=[FILTERED]"),
        ("/?token[a][]=sesame", "/?token[a][]=[FILTERED]"),
        ("/?a%5Btoken%5D=sesame", "/?a%5Btoken%5D=[FILTERED]"),
        ("/?%74%6Fken=sesame", "/?%74%6Fken=[FILTERED]"),
        ("/?my+token=sesame", "/?my+token=[FILTERED]"),
        ("/?token=sesame=sesame", "/?token=[FILTERED]"),
        ("/?token=sesame?sesame", "/?token=[FILTERED]"),
        ('/?token=ses"sesame', "/?token=[FILTERED]"),
        ("/?token=", "/?token=[FILTERED]"),
        ("token=sesame", "token=[FILTERED]"),
        ("vsn=2.0.0&password=sesame", "vsn=2.0.0&password=[FILTERED]"),
        ("GET /?token=sesame HTTP/1.1", "GET /?token=[FILTERED] HTTP/1.1"),
        ('"GET /?token=sesame" 200 "x"', '"GET /?token=[FILTERED]" 200 "x"'),
        ("https://a.example/?token=sesame", "https://a.example/?token=[FILTERED]"),
        ("/?a=1?token=sesame", "/?a=1?token=sesame"),  # all of it is the value of a
        ("/token?page=2", "/token?page=2"),
        ("/?token&page=2", "/?token&page=2"),
        ("/?page=token", "/?page=token"),
        ("max_tokens = 5", "max_tokens = 5"),
        ("", ""),
    ],
)
def test_the_value_of_a_secret_parameter_is_masked(text: str, masked: str) -> None:
    assert filter_url(text) == masked


@given(st.text())
def test_masked_text_is_not_masked_again(text: str) -> None:
    once = filter_url(f"/?token={text}")
    assert filter_url(once) == once


def test_the_setting_says_what_a_secret_is() -> None:
    with override_settings(PHX_PROTOCOL={"FILTER_PARAMETERS": ["pin"]}):
        assert filter_url("/?pin=1234&token=a") == "/?pin=[FILTERED]&token=a"


# ----------------------------------------------------------------------- the records


def record(message: Any, *args: Any) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, __file__, 1, message, args, None)


def passed(message: Any, *args: Any) -> logging.LogRecord:
    """The record as it leaves the filter."""
    it = record(message, *args)
    assert FilterParameters().filter(it) is True
    return it


def test_uvicorns_formatter_still_finds_its_five_arguments() -> None:
    args = ("127.0.0.1:5", "GET", "/a?token=sesame", "1.1", 200)
    formatter = AccessFormatter("%(request_line)s %(status_code)s", use_colors=False)
    line = formatter.format(passed('%s - "%s %s HTTP/%s" %d', *args))
    assert line == "GET /a?token=[FILTERED] HTTP/1.1 200 OK"


class Atoms(dict[str, Any]):
    """As gunicorn's: what is not there is a dash."""

    def __missing__(self, name: str) -> str:
        return "-"


def test_atoms_are_masked_in_a_copy_of_their_own_class() -> None:
    atoms = Atoms(r="GET /?token=sesame HTTP/1.1", q="token=sesame", D=5)
    before = copy.copy(atoms)
    line = passed('%(h)s "%(r)s" %(q)s %(D)d', atoms).getMessage()
    assert (
        line == '- "GET /?token=[FILTERED] HTTP/1.1" token=[FILTERED] 5'
    ) and atoms == before


def test_a_message_without_arguments_is_masked() -> None:
    assert passed('"GET /?token=sesame" 200').getMessage() == (
        '"GET /?token=[FILTERED]" 200'
    )


def test_a_secret_that_is_an_argument_of_its_own_is_masked() -> None:
    line = passed("GET /?token=%s&page=%d", SECRET, 2).getMessage()
    assert line == "GET /?token=[FILTERED]&page=2"


@pytest.mark.parametrize(
    "text", ["\n", "\r\n", "\x1b[2J", "\x9b2J", "\u202e", "\u2028"]
)
def test_what_is_not_printable_is_escaped(text: str) -> None:
    url = f"/?a={text}&token=sesame"
    for it in (
        passed('%s "GET %s" %d', "127.0.0.1", url, 200),
        passed('%(r)s "%(q)s"', Atoms(r=f"GET {url}", q=url)),
    ):
        line = it.getMessage()
        assert line.isprintable() and "token=[FILTERED]" in line
    # here a line end may be the server's own, as in a traceback
    ended = passed(f'"GET {url}"\n').getMessage()
    assert ended.endswith('"\n') and ended.replace("\n", "").isprintable()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "message, args",
    [
        ("%d", ("no number",)),
        ("too few: %s %s", ("a",)),
        ("100%", ()),
        ("%s", (Unprintable(),)),
        (Unprintable(), ()),
        (None, (None,)),
        (b"bytes", ()),
        ("%(a)s", ({"b": object()},)),
    ],
)
def test_records_of_an_unknown_form_pass_unchanged(
    message: Any, args: tuple[Any, ...]
) -> None:
    it, before = passed(message, *args), record(message, *args)
    assert (it.msg, it.args) == (before.msg, before.args)


@given(st.text(), st.lists(st.text() | st.none() | st.binary() | st.integers()))
def test_it_never_raises(message: str, args: list[Any]) -> None:
    passed(message, *args)


# ----------------------------------------------------------------------- the servers


def test_installing_it_twice_masks_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # both are put back behind the test
    monkeypatch.setattr(access_logs, "LOGGERS", ("tests.access",))
    unmasked = AccessLogGenerator.write_entry
    monkeypatch.setattr(AccessLogGenerator, "write_entry", unmasked)
    install()
    install()
    assert len(logging.getLogger("tests.access").filters) == 1
    stream = io.StringIO()
    AccessLogGenerator(stream).write_entry(
        host="a", date=datetime.datetime(2026, 1, 1), request="GET /?token=sesame"
    )
    assert stream.getvalue().endswith('"GET /?token=[FILTERED]" - -\n')


def test_it_works_before_django_has_settings() -> None:
    code = (
        "import logging; from phx_protocol.contrib import access_logs; access_logs.install();"
        "logging.basicConfig(format='%(message)s');"
        "logging.getLogger('uvicorn.error').error('%s', '/?token=sesame')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": ""},
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "/?token=[FILTERED]\n"


def command(server: str, port: int) -> list[str]:
    """A server that logs every request with all of its URL, as far as it can."""
    address = f"127.0.0.1:{port}"
    gunicorn = ["gunicorn", APPLICATION, "-b", address, "--access-logfile", "-"]
    gunicorn += ["--no-control-socket", "-k"]
    args = {
        "uvicorn": ["uvicorn", APPLICATION, "--port", str(port)],
        "daphne": ["daphne", "-b", "127.0.0.1", "-p", str(port), APPLICATION],
        "runserver": ["django", "runserver", "--noreload", address],
        "gunicorn": [*gunicorn, "uvicorn_worker.UvicornWorker"],
        "gunicorn's own": [*gunicorn, "asgi"],
        "hypercorn": [
            *("hypercorn", APPLICATION, "--bind", address, "--access-logfile", "-"),
            *("--access-logformat", '%(h)s "%(R)s" %(q)s %(s)s'),
        ],
        "granian": [
            *("granian", "--interface", "asgi", "--port", str(port), "--access-log"),
            *("--access-log-fmt", '"%(method)s %(path)s?%(query_string)s" %(status)d'),
            APPLICATION,
        ],
    }[server]
    return [sys.executable, "-m", *args]


QUERY = "?vsn=2.0.0&token=[FILTERED]&a%5Bsecret%5D=[FILTERED]&page=5"
POLL = "/polled?vsn=2.0.0&token=[FILTERED]&"

# what each says of a WebSocket; Daphne leaves the query out, gunicorn's own worker all of it
WEBSOCKET = {
    "uvicorn": f'"WebSocket /socket/websocket{QUERY}" [accepted]',
    "daphne": '"WSCONNECT /socket/websocket"',
    "runserver": "WebSocket CONNECT /socket/websocket [",
    "gunicorn": f'"WebSocket /socket/websocket{QUERY}" [accepted]',
    "gunicorn's own": "",
    "hypercorn": f'"GET /socket/websocket{QUERY} 1.1" {QUERY[1:]} 101',
    "granian": f'/socket/websocket{QUERY}" 101',
}


async def log_of(server: str, path: Path, how: str) -> str:
    """Return the log of `server` for a WebSocket and requests with secrets in their URLs."""
    port = servers.free_port()
    env = {"DJANGO_SETTINGS_MODULE": "tests.contrib.settings", "ACCESS_LOGS": how}
    with servers.run(command(server, port), port, path, **env) as running:
        query = {"token": SECRET, "a%5Bsecret%5D": SECRET, "page": "5"}
        async with Client(running.url, **query) as client:
            heartbeat = await client.send("phoenix", "heartbeat", {})
            assert await client.reply(heartbeat) == ("ok", {})
        url = f"http://127.0.0.1:{port}/polled?vsn=2.0.0&token={SECRET}&"
        referer = {"referer": f"https://a.example/?token={SECRET}"}
        async with httpx.AsyncClient() as http:
            # a server may write its line behind its answer: ask until both are there
            for _ in range(100):
                await http.get(url, headers=referer)
                log = running.logged()
                if "/polled" in log and WEBSOCKET[server] in log:
                    break
    return running.logged()


@pytest.mark.parametrize("server", WEBSOCKET)
async def test_the_log_of_a_server_has_the_requests_and_not_the_secrets(
    server: str, tmp_path: Path
) -> None:
    log = await log_of(server, tmp_path / "log", "install")
    assert POLL in log and WEBSOCKET[server] in log and SECRET not in log


async def test_the_filter_in_logging_does_the_same(tmp_path: Path) -> None:
    log = await log_of("uvicorn", tmp_path / "log", "logging")
    assert POLL in log and WEBSOCKET["uvicorn"] in log and SECRET not in log
