"""Serving: the Socket classes that this process serves."""

from __future__ import annotations

#: the classes that have an ASGI application or a client here, in order, even if SOCKETS lacks them
mounted: dict[type, None] = {}


def mount_socket(socket_class: type) -> None:
    """Remember that this process serves `socket_class`: it has an ASGI application or a client."""
    mounted[socket_class] = None
