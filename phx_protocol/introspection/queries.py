"""The questions, and how all nodes are asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from channels.layers import get_channel_layer

from ..conf import options
from ..logs import get_logger
from ..node.blocking import sync
from ..node.node import Node, get_node
from ..node.rpc import NoAnswer, call_node
from ..presence.entries import Diff, Presences, Roster
from ..presence.tracker import Trackers, classes
from ..pubsub.link import is_in_memory
from ..socket.routes import history_of, known_sockets, routes_of
from ..state import NOWHERE, backend
from .infos import HistoryInfo, NodeInfo, SocketInfo, TopicDetails, TopicInfo, made
from .report import Report, within

logger = get_logger("phx_protocol.introspection")

#: sockets that one node tells of at the most
LIMIT = 1000
#: topics that are asked about in one message, and the bytes of their JSON
TOPICS = 1000
TOPICS_BYTES = 512 * 1024


async def alist_nodes() -> list[NodeInfo]:
    """The live nodes, the oldest first."""
    known = await get_node().heartbeat.state.nodes()
    nodes = [made(NodeInfo, {**about, "name": name}) for name, about in known.items()]
    return sorted(nodes, key=lambda node: (node.started_at, node.name))


async def alist_topics() -> list[TopicInfo]:
    """The topics that clients have joined, by name; their counts are at most a second old."""
    counts = await get_node().heartbeat.state.counts()
    return [TopicInfo(t, sum(n.values()), n) for t, n in sorted(counts.items())]


async def adescribe_topics(topics: Iterable[str]) -> dict[str, TopicDetails]:
    """More of those of `topics` that clients have joined. Every node is asked, as below."""
    found: dict[str, TopicDetails] = {}
    for some in _portions(topics):
        await _describe({"topics": some}, found)
    return found


def _portions(topics: Iterable[str]) -> Iterator[list[str]]:
    """`topics` as they are asked about: some in each message, and at least one."""
    left = list(topics)
    while left:
        some = list(within(left[:TOPICS], TOPICS_BYTES)) or left[:1]
        del left[: len(some)]
        yield some


async def _describe(some: dict[str, Any], found: dict[str, TopicDetails]) -> None:
    for _, told in await _ask_all("describe_topics", some):
        for topic, new in told.items():
            old = found.get(topic, TopicDetails([], 0, 0.0))
            found[topic] = TopicDetails(
                list(dict.fromkeys([*old.channels, *new["channels"]])),
                # each node knows of all, one that has just begun of some
                max(old.presences, new["presences"]),
                old.messages_per_second + new["rate"],
            )


async def abusiest_topics(limit: int = LIMIT) -> dict[str, float]:
    """topic -> messages in a second, as in TopicDetails, the busiest first; quiet ones are left
    out, and what no node has among its `limit` busiest. Every node is asked, as below.
    """
    rates: Counter[str] = Counter()
    for _, told in await _ask_all("busiest_topics", {"limit": limit}):
        for topic, rate in told.items():
            rates[topic] += rate
    return dict(rates.most_common(limit))


async def alist_sockets(
    *, topic: str | None = None, user: Any = None, limit: int = LIMIT
) -> list[SocketInfo]:
    """The open connections that have joined `topic`, of `user` (a user, or its primary key),
    or all; of each node `limit` at the most, and so many as one message takes (1 MiB: some
    thousands).

    Every node is asked. One that does not answer in two seconds is left out and logged.
    """
    wanted = None if user is None else str(getattr(user, "pk", user))
    body = {"topic": topic, "user": wanted, "limit": limit}
    found: list[SocketInfo] = []
    for node, told in await _ask_all("list_sockets", body):
        found += (made(SocketInfo, {**s, "node": node.name}) for s in told["sockets"])
        if told.get("left_out"):
            logger.warning(
                "%s does not tell of %d more sockets", node.name, told["left_out"]
            )
    return sorted(found, key=lambda socket: socket.opened_at)


async def alist_presences(topic: str) -> Presences:
    """Who is on `topic`, whatever Presence class tracks it: as ``Presence.list``, not enriched."""
    for socket_class in known_sockets():
        routes_of(socket_class)  # which loads the channels, and they their presences
    trackers = get_node().part(Trackers)
    found = Roster()
    for presence_class in list(classes.values()):
        roster = await trackers.of(presence_class).roster(topic)
        found.change(Diff(roster.entries.values()))
    return found.presences()


async def ahistory(topic: str) -> HistoryInfo | None:
    """What is kept of `topic`, or None when its channel class keeps nothing."""
    kept = history_of(topic)
    if kept is None:
        return None
    state = get_node().heartbeat.state
    position, count = await state.kept(topic, kept.ttl)
    events = None if kept.events is None else sorted(kept.events)
    offset = None if position == NOWHERE else str(position)
    return HistoryInfo(kept.size, kept.ttl, events, count, offset)


def sees_only_itself() -> bool:
    """Whether other processes cannot be seen from this one: the state or the layer is in memory."""
    layer = get_channel_layer(options().channel_layer)
    return is_in_memory(layer) or backend(options().state) == "memory"


async def _ask_all(
    name: str, body: dict[str, Any]
) -> list[tuple[NodeInfo, dict[str, Any]]]:
    """The answers of the nodes that give one."""
    node, others = get_node(), await alist_nodes()
    answers = await asyncio.gather(*(_ask(node, other, name, body) for other in others))
    return [(other, told) for other, told in zip(others, answers) if told is not None]


async def _ask(
    node: Node, other: NodeInfo, name: str, body: dict[str, Any]
) -> dict[str, Any] | None:
    report = node.part(Report)
    try:
        async with report.asking:
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
