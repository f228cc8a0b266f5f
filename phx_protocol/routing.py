"""URL patterns of the mounts (``Phoenix.Endpoint.socket/3``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from django.urls import URLPattern, path

from .checks import report
from .conf import options
from .socket.routes import load_socket
from .socket.socket import Socket
from .transports.longpoll import LongPollConsumer
from .transports.websocket import PhoenixConsumer


def patterns(sockets: Mapping[str, Any] | None = None) -> list[URLPattern]:
    """Return ``<mount>/websocket`` and ``<mount>/longpoll`` of every mount, for Channels' URLRouter.

    `sockets` maps mounts (``"/socket"``, converters allowed: ``"/ws/<int:shop>"``) to Socket
    classes or their dotted paths; default: the setting SOCKETS. The errors and warnings of the
    system checks are logged, once a process.
    """
    report()
    mounts = sockets if sockets is not None else options().sockets
    return [
        pattern
        for mount, target in mounts.items()
        for pattern in _mount(mount, load_socket(target))
    ]


def _mount(mount: str, socket: type[Socket]) -> Iterator[URLPattern]:
    consumers: dict[str, Any] = {
        "websocket": PhoenixConsumer.as_asgi,
        "longpoll": partial(LongPollConsumer.as_asgi, mount=mount.strip("/")),
    }
    for transport, url in options(socket).paths(mount).items():
        application: Any = consumers[transport](socket=socket)
        route = url.removeprefix("/")
        # Plug ignores a slash at the end, and some clients send one
        yield path(route, application)
        yield path(f"{route}/", application)
