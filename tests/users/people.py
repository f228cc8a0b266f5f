"""Connections of users, as a node sees them."""

from __future__ import annotations

import itertools
from typing import Any

from phx_protocol.node.node import Node

_keys = itertools.count(1)


class Person:
    """A user that no database has."""

    is_authenticated = True

    def __init__(self, pk: int | str) -> None:
        self.pk = pk


class Connection:
    """An open connection of a user to `node`; that of an anonymous one if `pk` is None."""

    def __init__(self, node: Node, pk: int | str | None) -> None:
        self.key = f"connection {next(_keys)}"
        self.user = None if pk is None else Person(pk)
        self.claim = self.source = None
        self._node = node
        socket: Any = self
        node.add_connection(socket)

    def close(self) -> None:
        socket: Any = self
        self._node.discard_connection(socket)
        self._node.connections.ended(socket)


class Subscriber:
    """A channel that has joined a topic."""

    fastlane = "a lane"

    def write(self, frame: Any) -> None: ...
    def deliver_broadcast(self, broadcast: Any) -> None: ...
