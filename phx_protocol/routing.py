"""URL patterns of the mounts (``Phoenix.Endpoint.socket/3``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.urls import URLPattern, path

from .conf import options
from .socket import Socket, load_socket
from .transports.websocket import PhoenixConsumer


def patterns(sockets: Mapping[str, Any] | None = None) -> list[URLPattern]:
    """``<mount>/websocket`` for every mount, for a URLRouter of Channels.

    `sockets` maps mounts (``"/socket"``, converters allowed: ``"/ws/<int:shop>"``) to Socket
    classes or their dotted paths; default: the setting SOCKETS.
    """
    mounts = sockets if sockets is not None else options().sockets
    return [
        pattern
        for mount, target in mounts.items()
        for pattern in _mount(mount, load_socket(target))
    ]


def _mount(mount: str, socket: type[Socket]) -> list[URLPattern]:
    if not options(socket).websocket:
        return []
    route = mount.strip("/") + "/websocket"
    application: Any = PhoenixConsumer.as_asgi(socket=socket)
    # Plug ignores a slash at the end, and so do clients of all kinds
    return [
        path(route.lstrip("/"), application),
        path(route.lstrip("/") + "/", application),
    ]
