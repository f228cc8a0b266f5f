"""Site: the mount that is checked, and the parameters with which clients connect to it."""

from __future__ import annotations

import dataclasses
from urllib.parse import SplitResult, urlencode, urlsplit

TLS = {"http": False, "ws": False, "https": True, "wss": True}


@dataclasses.dataclass(frozen=True)
class Site:
    """The site that is checked.

    `mount` is the URL of its mount; `origin` that of the site's own pages; `idle` the seconds for
    which a silent connection is watched; `http_port` the port where the same host may answer
    without TLS.
    """

    mount: SplitResult
    origin: str
    params: tuple[tuple[str, str], ...] = ()
    auth_token: str | None = None
    idle: float = 65.0
    http_port: int = 80

    @property
    def has_tls(self) -> bool:
        return TLS[self.mount.scheme]

    def in_the_clear(self) -> Site:
        """Return the same site over http."""
        parts = self.mount._replace(netloc=self.mount.netloc.rpartition("@")[2])
        host = (
            f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        )
        mount = parts._replace(scheme="http", netloc=f"{host}:{self.http_port}")
        return dataclasses.replace(self, mount=mount)

    def websocket(self, vsn: str) -> str:
        """Return the URL to which phoenix.js opens a WebSocket."""
        scheme = "wss" if self.has_tls else "ws"
        return f"{scheme}://{self.mount.netloc}{self.target('websocket', vsn=vsn)}"

    def target(self, transport: str, **params: str) -> str:
        """Return path and query of a request to `transport`."""
        query = urlencode([*self.params, *params.items()])
        return f"{self.mount.path}/{transport}?{query}"


def parse_mount(url: str) -> SplitResult:
    """Return the mount of `url`, which may end with a transport. Raise ValueError if it is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in TLS or not parts.hostname:
        raise ValueError(
            f"a URL such as https://example.com/socket is wanted, not {url!r}"
        )
    parts.port  # noqa: B018 - raises ValueError if the port is not a number
    path = parts.path.rstrip("/")
    for transport in ("/websocket", "/longpoll"):
        path = path.removesuffix(transport)
    return parts._replace(path=path, query="", fragment="")


def own_origin(mount: SplitResult) -> str:
    """Return the Origin of a page on the site itself."""
    return f"{'https' if TLS[mount.scheme] else 'http'}://{mount.netloc}"
