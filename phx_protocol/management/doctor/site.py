"""Site: the mount that is looked at, and what clients connect to it with."""

from __future__ import annotations

import dataclasses
from urllib.parse import SplitResult, urlencode, urlsplit

TLS = {"http": False, "ws": False, "https": True, "wss": True}


@dataclasses.dataclass(frozen=True)
class Site:
    """`mount` is its URL; `origin` that of the site's own pages; `idle` how many seconds a
    silent connection is watched; `http_port` where the same host may answer without TLS.
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
        """The same site over http."""
        parts = self.mount._replace(netloc=self.mount.netloc.rpartition("@")[2])
        host = (
            f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        )
        mount = parts._replace(scheme="http", netloc=f"{host}:{self.http_port}")
        return dataclasses.replace(self, mount=mount)

    def websocket(self, vsn: str) -> str:
        """The URL that phoenix.js opens a WebSocket to."""
        scheme = "wss" if self.has_tls else "ws"
        return f"{scheme}://{self.mount.netloc}{self.target('websocket', vsn=vsn)}"

    def target(self, transport: str, **params: str) -> str:
        """Path and query of a request to `transport`."""
        query = urlencode([*self.params, *params.items()])
        return f"{self.mount.path}/{transport}?{query}"


def parse_mount(url: str) -> SplitResult:
    """The mount that `url` names, with or without a transport at its end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in TLS or not parts.hostname:
        raise ValueError(
            f"a URL such as https://example.com/socket is wanted, not {url!r}"
        )
    parts.port  # noqa: B018 - raises ValueError on a port that is none
    path = parts.path.rstrip("/")
    for transport in ("/websocket", "/longpoll"):
        path = path.removesuffix(transport)
    return parts._replace(path=path, query="", fragment="")


def own_origin(mount: SplitResult) -> str:
    """The Origin of a page on the site itself."""
    return f"{'https' if TLS[mount.scheme] else 'http'}://{mount.netloc}"
