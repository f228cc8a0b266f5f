"""Serving: the Socket classes that this process serves."""

from __future__ import annotations

#: those that have an application or a client here, in order, whether SOCKETS names them or not
mounted: dict[type, None] = {}


def mount_socket(socket_class: type) -> None:
    """Remember that this process serves `socket_class`: it has an application or a client."""
    mounted[socket_class] = None
