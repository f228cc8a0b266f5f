"""Servers with a root path, with TLS of their own, and behind proxies, as users start them."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support import servers

APPLICATION = "tests.integration.site_app:application"
PROTO = {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"]}


class Site:
    """A server and whether it has TLS."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.tls = tls
        self.certificate = certificate
        self.own_origin = f"{'https' if tls else 'http'}://{self.host}"

    def page(self, path: str, **headers: str) -> str:
        """The body of an answer 200."""
        url = f"{self.own_origin}{path}"
        request = urllib.request.Request(url, headers=spelled(headers))
        with urllib.request.urlopen(request, context=self.tls, timeout=20) as answer:
            return answer.read().decode()  # type: ignore[no-any-return]

    def status(self, path: str = "/socket/websocket", **headers: str) -> int:
        """Return the status of a handshake."""
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        context = {"context": self.tls} if self.tls else {}
        line = kind(self.host, timeout=20, **context)
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "=="}
        line.request("GET", path, headers={**upgrade, **key, **spelled(headers)})
        status = line.getresponse().status
        line.close()
        return status

    def subprotocol(self, *offered: str) -> str | None:
        """Return the subprotocol of `offered` that a handshake selects."""
        url = f"ws://{self.host}/socket/websocket"
        names = [Subprotocol(name) for name in offered]
        with connect(url, subprotocols=names, proxy=None) as connection:
            return connection.subprotocol

    def poll(self, path: str = "/socket/longpoll", **headers: str) -> int:
        """The status in the body of the first answer over long-poll; 410 opens a session."""
        return int(json.loads(self.page(path, **headers))["status"])


def spelled(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def site(server: str, log: Path, *options: str, **settings: Any) -> Iterator[Site]:
    port = servers.free_port()
    args = [*servers.command(server, port, APPLICATION), *options]
    env = {"PHX_SETTINGS": json.dumps(settings)}
    with servers.run(args, port, log, **env) as running:
        yield Site(running.port)


@contextmanager
def daphne_with_tls(directory: Path, **settings: Any) -> Iterator[Site]:
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 1"
    make += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*make.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    port = servers.free_port()
    tls = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    args = [sys.executable, "-m", "daphne", "-e", tls, APPLICATION]
    env = {"PHX_SETTINGS": json.dumps(settings)}
    trusting = ssl.create_default_context(cafile=str(certificate))
    with servers.run(args, port, directory / "log", **env):
        yield Site(port, trusting, certificate)


def also(*values: Any) -> Any:
    """A case for which not everybody waits."""
    return pytest.param(*values, marks=pytest.mark.big)


@pytest.mark.parametrize("server", ["daphne", also("uvicorn"), also("hypercorn")])
def test_a_root_path_is_no_hindrance_whether_the_proxy_strips_it_or_not(
    server: str, tmp_path: Path
) -> None:
    with site(server, tmp_path / "log", "--root-path", "/app") as running:
        stripped = (
            "" if server == "uvicorn" else "/app"
        )  # uvicorn itself puts it before
        for prefix in {"", stripped}:
            assert running.page(f"{prefix}/page") == "http /page"
            assert running.status(f"{prefix}/socket/websocket") == 101
            assert running.poll(f"{prefix}/socket/longpoll") == 410
        # what any client can say to Daphne
        assert running.page("/page", Daphne_Root_Path="/x") == "http /page"
        assert running.status(Daphne_Root_Path="/x") == 101


@pytest.mark.big
def test_a_forced_script_name_is_where_the_sockets_are(tmp_path: Path) -> None:
    with site("daphne", tmp_path / "log", FORCE_SCRIPT_NAME="/app") as running:
        for prefix in ("", "/app"):
            assert running.page(f"{prefix}/page") == "http /page"
            assert running.status(f"{prefix}/socket/websocket") == 101
        assert running.poll("/app/socket/longpoll") == 410


def test_daphne_with_tls_lets_its_own_pages_in(tmp_path: Path) -> None:
    with daphne_with_tls(tmp_path, SECURE_SSL_REDIRECT=True) as running:
        own = running.own_origin
        assert running.page("/page") == "https /page"
        for origin in (own, own.replace("https", "wss"), f"{own}/".upper()):
            assert running.status(Origin=origin) == 101
            assert running.poll(Origin=origin) == 410
        # all pages are https
        assert running.status(Origin=own.replace("https", "http")) == 403
        evil = "https://evil.test"
        assert running.status(Origin=evil) == 403
        assert running.poll(Origin=evil) == 403


@pytest.mark.big
@pytest.mark.parametrize("server, status", [("daphne", 403), ("uvicorn", 301)])
def test_a_session_does_not_open_in_the_clear(
    server: str, status: int, tmp_path: Path
) -> None:
    settings = {"SECURE_SSL_REDIRECT": True, "SECURE_SSL_HOST": "127.0.0.1:1", **PROTO}
    with site(server, tmp_path / "log", **settings) as running:
        assert running.status(X_Forwarded_Proto="http") == status
        assert running.status(X_Forwarded_Proto="https") == 101
        assert running.poll(X_Forwarded_Proto="https") == 410
        with pytest.raises(OSError, match="refused"):  # by where it is redirected to
            running.poll(X_Forwarded_Proto="http")


@pytest.mark.big
@pytest.mark.parametrize("server", ["daphne", "uvicorn", "hypercorn"])
def test_a_subprotocol_of_the_list_comes_back(server: str, tmp_path: Path) -> None:
    names = {"PHX_PROTOCOL": {"SUBPROTOCOLS": ["chat.v1"]}}
    with site(server, tmp_path / "log", **names) as running:
        assert running.subprotocol("mqtt", "chat.v1") == "chat.v1"
        assert running.subprotocol("phoenix", "mqtt") == "phoenix"
        assert running.subprotocol("base64url.bearer.phx.YQ") is None
        with pytest.raises(InvalidStatus, match="403"):
            running.subprotocol("mqtt")


PROXIES = [
    ("daphne", ["--proxy-headers"], {}),
    also("daphne", ["--proxy-headers"], PROTO),
    also("daphne", [], PROTO),
    also("uvicorn", ["--proxy-headers"], {}),
    ("uvicorn", ["--no-proxy-headers"], PROTO),
    also("hypercorn", [], PROTO),
]


@pytest.mark.parametrize("server, options, settings", PROXIES)
def test_a_proxy_that_writes_wss_of_a_handshake_means_https(
    server: str, options: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    with site(server, tmp_path / "log", *options, **settings) as running:
        own = {"Host": "example.com", "Origin": "https://example.com"}
        for_whom = {"X_Forwarded_For": "192.0.2.1"}
        # Traefik, and others
        for proto in (
            ("wss", "https") if options else ("wss", "wss,https", "https, http")
        ):
            headers = {**own, **for_whom, "X_Forwarded_Proto": proto}
            assert running.poll(**headers) == 410, proto
            del headers["Host"]  # of websockets it is the URL's
            headers["Origin"] = f"https://{running.host}"
            assert running.status(**headers) == 101, proto
            headers["Origin"] = "https://evil.test"
            assert running.status(**headers) == 403, proto
