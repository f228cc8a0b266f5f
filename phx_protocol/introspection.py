"""What is going on, over all processes: nodes, topics, sockets, presences.

Each function has an async twin with an ``a`` before its name; the plain ones are for views,
commands and the shell, and raise RuntimeError on a running event loop. All raise StateError
when the state cannot be reached. With a state in memory only this process is seen.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from typing import Any, TypeVar

from .logs import get_logger
from .presence.entries import Diff, Presences, Roster
from .presence.tracker import TRACKERS, Trackers, classes
from .pubsub import PubSub, blocking, get_pubsub
from .pubsub.relay import NoAnswer
from .socket import known_sockets

logger = get_logger("phx_protocol.introspection")

Info = TypeVar("Info")

#: seconds that a node has for an answer
PATIENCE = 2.0
#: sockets that one node tells of at the most
LIMIT = 1000


@dataclasses.dataclass(frozen=True)
class NodeInfo:
    """A live process (event loop) that serves sockets or tracks presences.

    `started_at` is in seconds of the epoch, `sockets` as of its last beat, `address` its channel
    on the channel layer, if it has one.
    """

    name: str
    host: str
    pid: int
    started_at: float
    sockets: int
    address: str | None


@dataclasses.dataclass(frozen=True)
class TopicInfo:
    """A topic that clients have joined; `nodes` is node name -> subscribers there."""

    topic: str
    subscribers: int
    nodes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class SocketInfo:
    """An open connection: `id` is unique, `name` what ``Socket.id()`` says, `user` the primary
    key as text, `opened_at` in seconds of the epoch, `topics` those it has joined."""

    id: str
    name: str | None
    user: str | None
    username: str | None
    node: str
    transport: str
    opened_at: float
    topics: list[str]


async def alist_nodes() -> list[NodeInfo]:
    """The live nodes, the oldest first."""
    known = await get_pubsub().heartbeat.state.nodes()
    nodes = [_made(NodeInfo, {**about, "name": name}) for name, about in known.items()]
    return sorted(nodes, key=lambda node: (node.started_at, node.name))


async def alist_topics() -> list[TopicInfo]:
    """The topics that clients have joined, by name; their counts are at most a second old."""
    counts = await get_pubsub().heartbeat.state.counts()
    return [TopicInfo(t, sum(n.values()), n) for t, n in sorted(counts.items())]


async def alist_sockets(
    *, topic: str | None = None, user: Any = None, limit: int = LIMIT
) -> list[SocketInfo]:
    """The open connections that have joined `topic`, of `user` (a user, or its primary key),
    or all; of each node `limit` at the most.

    Every node is asked. One that does not answer in two seconds is left out and logged.
    """
    wanted = None if user is None else str(getattr(user, "pk", user))
    body = {"topic": topic, "user": wanted, "limit": limit}
    node = get_pubsub()
    found = await asyncio.gather(
        *(_ask(node, other, body) for other in await alist_nodes())
    )
    return sorted(sum(found, []), key=lambda socket: socket.opened_at)


async def _ask(node: PubSub, other: NodeInfo, body: dict[str, Any]) -> list[SocketInfo]:
    here = {n.heartbeat.name: n for n in (node, *node.others())}.get(other.name)
    try:
        if here is node:
            answer = await node.sockets.describe(body)
        elif here is not None:
            call = here.sockets.describe(body)
            future = asyncio.run_coroutine_threadsafe(call, here.loop)
            answer = await asyncio.wrap_future(future)
        elif other.address is None:
            raise NoAnswer("it is not on the channel layer")
        else:
            ask = functools.partial(node.relay.ask, patience=PATIENCE, timeout=PATIENCE)
            answer = await ask(other.address, "list_sockets", body)
    except NoAnswer as error:
        logger.warning("%s did not tell of its sockets: %s", other.name, error)
        return []
    return [
        _made(SocketInfo, {**told, "node": other.name}) for told in answer["sockets"]
    ]


def _made(info: type[Info], told: dict[str, Any]) -> Info:
    """`info` of what a node tells, which may be of a later version and tell more."""
    fields: Any = info
    return info(**{f.name: told[f.name] for f in dataclasses.fields(fields)})


async def alist_presences(topic: str) -> Presences:
    """Who is on `topic`, whatever Presence class tracks it: as ``Presence.list``, not enriched."""
    for socket_class in known_sockets():
        socket_class.routes()  # which loads the channels, and they their presences
    trackers: Trackers = get_pubsub().extension(TRACKERS)
    found = Roster()
    for presence_class in list(classes.values()):
        roster = await trackers.of(presence_class).roster(topic)
        found.change(Diff(roster.entries.values()))
    return found.presences()


def list_nodes() -> list[NodeInfo]:
    """``alist_nodes`` for synchronous code."""
    return blocking.run(alist_nodes(), "list_nodes", "await alist_nodes()")


def list_topics() -> list[TopicInfo]:
    """``alist_topics`` for synchronous code."""
    return blocking.run(alist_topics(), "list_topics", "await alist_topics()")


def list_sockets(
    *, topic: str | None = None, user: Any = None, limit: int = LIMIT
) -> list[SocketInfo]:
    """``alist_sockets`` for synchronous code."""
    call = alist_sockets(topic=topic, user=user, limit=limit)
    return blocking.run(call, "list_sockets", "await alist_sockets(...)")


def list_presences(topic: str) -> Presences:
    """``alist_presences`` for synchronous code."""
    call = alist_presences(topic)
    return blocking.run(call, "list_presences", "await alist_presences(...)")
