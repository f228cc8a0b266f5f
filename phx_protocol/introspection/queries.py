"""The functions of introspection, and the calls to all nodes that they need."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from channels.layers import get_channel_layer

from ..bus.bus import is_on
from ..conf import options
from ..logs import get_logger
from ..node.blocking import sync
from ..node.neighbours import known_counts, known_nodes
from ..node.node import Node, get_node
from ..node.rpc import NoAnswer, call_node
from ..presence.entries import Diff, Presences, Roster
from ..presence.tracker import Trackers, classes
from ..pubsub.link import is_in_memory
from ..socket.routes import history_of, known_sockets, routes_of
from ..state import NOWHERE, backend
from .infos import (
    HistoryInfo,
    LatencyInfo,
    NodeInfo,
    SocketInfo,
    TopicDetails,
    TopicInfo,
    from_answer,
)
from .report import NodeReport, within

logger = get_logger("phx_protocol.introspection")

#: most sockets in the answer of one node
LIMIT = 1000
#: most topics in one request, and the bytes of their JSON
TOPICS = 1000
TOPICS_BYTES = 512 * 1024


async def alist_nodes() -> list[NodeInfo]:
    """Return the live nodes, the oldest first."""
    known = await known_nodes(get_node())
    nodes = [
        from_answer(NodeInfo, {**about, "name": name}) for name, about in known.items()
    ]
    return sorted(nodes, key=lambda node: (node.started_at, node.name))


async def alist_topics() -> list[TopicInfo]:
    """Return the topics that clients have joined, sorted by name; counts are at most a second old."""
    counts = await known_counts(get_node())
    return [TopicInfo(t, sum(n.values()), n) for t, n in sorted(counts.items())]


async def adescribe_topics(topics: Iterable[str]) -> dict[str, TopicDetails]:
    """Return details of those of `topics` that clients have joined.

    It calls every node, as ``alist_sockets`` does.
    """
    found: dict[str, TopicDetails] = {}
    for some in _portions(topics):
        await _describe({"topics": some}, found)
    return found


def _portions(topics: Iterable[str]) -> Iterator[list[str]]:
    """Split `topics` into the lists of the requests, each with at least one topic."""
    left = list(topics)
    while left:
        some = list(within(left[:TOPICS], TOPICS_BYTES)) or left[:1]
        del left[: len(some)]
        yield some


async def _describe(some: dict[str, Any], found: dict[str, TopicDetails]) -> None:
    for _, answer in await _survey("describe_topics", some):
        for topic, new in answer.items():
            old = found.get(topic, TopicDetails([], 0, 0.0))
            found[topic] = TopicDetails(
                list(dict.fromkeys([*old.channels, *new["channels"]])),
                # each node knows all keys; only one that has just begun may know fewer
                max(old.presences, new["presences"]),
                old.messages_per_second + new["rate"],
            )


async def abusiest_topics(limit: int = LIMIT) -> dict[str, float]:
    """Return topic -> messages per second, as in TopicDetails, the busiest first.

    Topics without messages are left out, and those that no node has among its `limit` busiest.
    It calls every node, as ``alist_sockets`` does.
    """
    rates: Counter[str] = Counter()
    for _, answer in await _survey("busiest_topics", {"limit": limit}):
        for topic, rate in answer.items():
            rates[topic] += rate
    return dict(rates.most_common(limit))


async def alist_sockets(
    *, topic: str | None = None, user: Any = None, limit: int = LIMIT
) -> list[SocketInfo]:
    """Return the open connections that have joined `topic`, or are of `user`, or all.

    `user` is a user or its primary key. Each node returns at most `limit` sockets, and no more than
    fit into one message (1 MiB: a few thousand). It calls every node. One that does not answer
    within two seconds is left out and logged.
    """
    wanted = None if user is None else str(getattr(user, "pk", user))
    body = {"topic": topic, "user": wanted, "limit": limit}
    found: list[SocketInfo] = []
    for node, answer in await _survey("list_sockets", body):
        found += (
            from_answer(SocketInfo, {**s, "node": node.name}) for s in answer["sockets"]
        )
        if answer.get("left_out"):
            logger.warning("%s left out %d more sockets", node.name, answer["left_out"])
    return sorted(found, key=lambda socket: socket.opened_at)


async def alist_presences(topic: str) -> Presences:
    """Return the presences on `topic` of all Presence classes: as ``Presence.list``, but not enriched."""
    for socket_class in known_sockets():
        # imports the channels, and with them their Presence classes
        routes_of(socket_class)
    trackers = get_node().part(Trackers)
    found = Roster()
    for presence_class in list(classes.values()):
        roster = await trackers.of(presence_class).roster(topic)
        found.change(Diff(roster.entries.values()))
    return found.presences()


async def ahistory(topic: str) -> HistoryInfo | None:
    """Return the history of `topic`, or None if its channel class has no history."""
    kept = history_of(topic)
    if kept is None:
        return None
    ttl = kept.ttl
    position, count = await get_node().asked(
        topic, lambda heartbeat: heartbeat.state.kept(topic, ttl)
    )
    events = None if kept.events is None else sorted(kept.events)
    offset = None if position == NOWHERE else str(position)
    return HistoryInfo(kept.size, kept.ttl, events, count, offset)


async def alatencies(topic: str) -> LatencyInfo | None:
    """Return how long the last changes on `topic` took to arrive; None if nobody got any.

    These are broadcasts of the outbox, ``broadcast_changes`` and ``broadcast_on_commit``. It calls every
    node, as ``alist_sockets`` does.
    """
    answers = await _survey("latencies", {"topic": topic})
    return LatencyInfo.of([one for _, a in answers for one in a["latencies"]])


async def aserver_of(topic: str) -> str | None:
    """Return the name of the server of the state that has `topic`; None if there is only one."""
    node = get_node()
    if len(node.heartbeats) == 1:
        return None
    await node.heartbeat.state.nodes()  # it knows if the servers have changed
    await node.placement.settled()
    return node.heartbeat_of(topic).state.server


def sees_one_process() -> bool:
    """Return True if this process cannot see others: the state or the layer is in memory.

    With a layer in memory the local bus may connect it to others of this machine.
    """
    if is_in_memory(get_channel_layer(options().channel_layer)):
        return not is_on()
    return backend(options().state) == "memory"


async def _survey(
    name: str, body: dict[str, Any]
) -> list[tuple[NodeInfo, dict[str, Any]]]:
    """Call all nodes. Return each node that answered with its answer."""
    node, others = get_node(), await alist_nodes()
    answers = await asyncio.gather(
        *(_call(node, other, name, body) for other in others)
    )
    return [
        (other, answer) for other, answer in zip(others, answers) if answer is not None
    ]


async def _call(
    node: Node, other: NodeInfo, name: str, body: dict[str, Any]
) -> dict[str, Any] | None:
    report = node.part(NodeReport)
    try:
        async with report.calling:
            return await call_node(node, other.name, other.address, name, body)
    except NoAnswer as error:
        logger.warning("%s did not answer to %s: %s", other.name, name, error)
        return None


list_nodes = sync(alist_nodes)
list_topics = sync(alist_topics)
describe_topics = sync(adescribe_topics)
busiest_topics = sync(abusiest_topics)
list_sockets = sync(alist_sockets)
list_presences = sync(alist_presences)
history = sync(ahistory)
latencies = sync(alatencies)
server_of = sync(aserver_of)
