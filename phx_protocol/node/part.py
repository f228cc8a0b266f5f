"""Part: an extension of a node, such as presence, histories, or the sessions of long-poll."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from ..auth.credentials import Claim
from .connections import Body, Command, OpenSocket

if TYPE_CHECKING:
    from .heartbeat import Heartbeat
    from .node import Node

Call = Callable[[Body], Awaitable[Body]]
Cast = Callable[[Body], None]
#: whether a topic, a user or an address was on a server until now, and is on another one
HasMoved = Callable[[str], bool]


class Part:
    """An extension of one node. ``node.part(SomePart)`` returns the one of that node.

    Each node makes a part of every class in ``PARTS`` at once, of other classes at the first call.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def calls(self) -> Mapping[str, Call]:
        """The functions that answer calls of other nodes: name -> function."""
        return {}

    @property
    def casts(self) -> Mapping[str, Cast]:
        """The functions that handle casts of other nodes, which need no answer: name -> function."""
        return {}

    @property
    def commands(self) -> Mapping[str, Command]:
        """The functions that execute commands to the sockets of all nodes: name -> function."""
        return {}

    #: whether it also beats while the state fails
    beats_without_state: ClassVar[bool] = False

    async def beat(self) -> None:
        """Do the work of every heartbeat, of the first one of the node. May raise StateError."""

    async def check(self, claim: Claim) -> None:
        """Raise BadSignature if a client with the token of `claim`, which is valid, may not be here.

        Raise ConnectionRefused if that cannot be found out now.
        """

    def opened(self, socket: OpenSocket) -> None:
        """Note that a connection has opened."""

    def closed(self, connection: str) -> None:
        """Note that the connection with this key is closed, or did not open."""

    def missed_commands(self) -> None:
        """Note that commands of other nodes may not have arrived: this node had no sockets."""

    async def settled(self) -> None:
        """Wait until what was begun is written: the process goes down."""

    def resumed(self) -> None:
        """Note that the process does not go down after all: it accepts connections again."""

    def unused(self, topic: str) -> None:
        """Forget `topic`: its last subscriber of this node has left."""


class StatePart(Part):
    """A part that keeps something in the state: a node has one for each server of the state.

    ``node.part(SomePart, topic)`` returns the one of the server that has `topic`.
    """

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        super().__init__(node)
        self.heartbeat = heartbeat

    def has(self, name: str) -> bool:
        """Return whether `name` (a topic, a user, an address) is on this server."""
        return self.heartbeat.has(name)

    async def beat(self) -> None:
        """Do the work of every heartbeat. May raise StateError."""

    async def report(self, counts: Mapping[str, int]) -> None:
        """Write to the state what has changed in the last second; may raise StateError.

        `counts` has the topics of this server whose number of joined clients has changed here.
        """

    def lost(self) -> None:
        """Note that the state has nothing of this node: its lease is over, or the state was lost."""

    def moved(self, has_moved: HasMoved) -> None:
        """Give what has moved from this server to the part of the server that has it now.

        What the state has of it here is dropped with the next beat.
        """

    def stopped(self) -> None:
        """Note that this node has left the state, with all that it had there."""


#: called with the node of an event loop when an ASGI application is called there for the first time
SERVING: list[Callable[[Node], None]] = []
#: the classes of which every node has an instance, or one for each server of the state
PARTS: list[type[Part]] = []
