"""All that a client takes is given back, whatever it does and whatever happens to it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from phx_protocol import (
    Channel,
    History,
    Presence,
    Socket,
    aclose_topic,
    areauthorize,
    local_broadcast,
)
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket, connect

#: the join_ref of a topic's last join
Joins = dict[str, str]
TOPICS = [f"{kind}:{n}" for kind in ("plain", "kept") for n in range(4)]


class Moody(Channel):
    """Each callback takes a few turns of the loop, and now and then it fails."""

    random = Random(0)
    intercepts = {"held"}
    presence = Presence

    async def mood(self) -> None:
        for _ in range(self.random.randrange(5)):
            await asyncio.sleep(0)
        if self.random.random() < 0.1:
            raise self.random.choice([RuntimeError("crash"), asyncio.CancelledError()])

    async def authorize(self) -> bool:
        await asyncio.sleep(0)
        return self.random.random() < 0.8

    async def join(self, payload: Any) -> Any:
        await self.mood()
        return self.random.choice(["ok", "ok", "ok", "error"])

    async def after_join(self) -> None:
        await self.subscribe("further")
        await self.mood()

    async def handle_in(self, event: str, payload: Any) -> Any:
        await self.mood()
        if self.random.random() < 0.1:
            await self.stop()
        return "ok"

    async def handle_out(self, event: str, payload: Any) -> None:
        await self.mood()

    async def handle_info(self, message: Any) -> None:
        await self.mood()

    async def terminate(self, reason: Any) -> None:
        await self.mood()


class MoodyWithHistory(Moody):
    history = History()


class MoodySocket(Socket):
    channels = {"plain:*": Moody, "kept:*": MoodyWithHistory}
    max_channels = 3
    max_frame_size = inbound_bytes = 100_000_000


async def step(socket: TestSocket, random: Random, ref: str, joins: Joins) -> None:
    topic = random.choice(TOPICS)
    size = random.choice([5000, 400_000, 1_200_000]) if random.random() < 0.1 else 0
    what = random.choices(
        ["join", "leave", "event", "held", "further", "close", "ask", "wait"],
        [25, 10, 35, 10, 5, 5, 3, 7],
    )[0]
    if what == "join":
        joins[topic] = ref
    event = {"join": "phx_join", "leave": "phx_leave"}.get(what, what)
    if what in ("join", "leave", "event"):
        await socket.send([joins.get(topic), ref, topic, event, {"p": "x" * size}])
    elif what == "held":
        await local_broadcast(topic, "held", {"p": "x" * 1000})
    elif what == "further":
        await local_broadcast("further", "news", {})
    elif what == "close":
        await aclose_topic(topic)
    elif what == "ask":
        await areauthorize(topic=topic)
    else:
        await asyncio.sleep(0)


def held(connection: Any) -> list[int]:
    """Return all counts that must be zero when everything was handled."""
    admission, backlog = connection.servers.admission, connection.backlog
    budget = backlog.budget
    return [
        backlog.frames,
        backlog.frame_bytes,
        backlog.held_bytes,
        budget._taken,
        len(budget._waiting),
        admission._undecided,
        len(admission._waiting or ()),
        admission._joined - len(connection.joined()),
    ]


@pytest.mark.parametrize("seed", range(20))
async def test_all_that_a_client_takes_is_given_back(seed: int) -> None:
    random = Moody.random = Random(seed)
    client = await connect(MoodySocket)
    (connection,) = get_node().connections
    joins: Joins = {}
    for ref in range(300):
        await step(client, random, str(ref), joins)
    if seed % 2:
        connection.cut_off()
    else:
        await client.settled()
        assert not any(held(connection))
    await client.close()
    assert not any(held(connection))
    node = get_node()
    assert not len(node.connections)
    assert not [t for t in (*TOPICS, "further") if t in node.pubsub.registry]
    assert not [t for t in TOPICS if await Presence.list(t)]
