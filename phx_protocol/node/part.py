"""Part: what plugs into a node, such as presence, histories, or the sessions of long-poll."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node

Body = dict[str, Any]
Call = Callable[[Body], Awaitable[Body]]
Cast = Callable[[Body], None]


class Part:
    """One for each node: ``node.part(SomePart)`` makes it, or has made it before.

    A class in ``PARTS`` is made with each node; any other one when it is first asked for.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def calls(self) -> Mapping[str, Call]:
        """Name -> the function that answers when another node calls it."""
        return {}

    @property
    def casts(self) -> Mapping[str, Cast]:
        """Name -> the function that takes what other nodes cast, for which there is no answer."""
        return {}

    async def beat(self) -> None:
        """Do what is due at every heartbeat. It may raise StateError."""

    def lost(self) -> None:
        """Forget what this node had in the state: its lease is over, or the state was lost."""

    def unused(self, topic: str) -> None:
        """Forget `topic`: its last subscriber of this node has left."""


#: the classes of which every node has one
PARTS: list[type[Part]] = []
