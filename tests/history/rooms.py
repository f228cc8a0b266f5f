"""Rooms whose broadcasts are kept, and clients of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from phx_protocol import Channel, EncodeError, History, Socket, event
from phx_protocol.exceptions import StateTimeout
from phx_protocol.node.node import Node, get_node
from phx_protocol.state.memory import MemoryState
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from tests.support.rooms import OpenRoom


class Room(Channel):
    history = History(size=5, ttl=60, events={"msg"})

    async def join(self, payload: Any) -> Any:
        return "error" if payload.get("deny") else ("ok", {"room": self.subtopic})

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast_from("msg", payload)
        return "ok"

    @event("unkeepable")
    async def unkeepable(self, payload: Any) -> Any:
        with pytest.raises(EncodeError, match="must be a mapping"):
            await self.broadcast("msg", [1])
        return "ok"


class Secretive(Room):
    """Withholds what is secret, and rewrites the rest."""

    history = History(size=5, ttl=60)
    intercepts = {"msg"}
    gate: asyncio.Event | None = None

    async def handle_out(self, event: str, payload: Any) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if payload.get("crash"):
            raise RuntimeError("crash")
        if payload.get("renamed"):
            await self.push("renamed", {})
        elif not payload.get("secret"):
            await self.push(event, {**payload, "for": self.subtopic})


class HistorySocket(Socket):
    channels = {"room:*": Room, "secret:*": Secretive, "plain": OpenRoom}


Connect = Any
#: of a client that has nothing yet, and knows what an offset is
CLAIM: dict[str, Any] = {"history": {}}


@pytest.fixture
async def client() -> AsyncIterator[Connect]:
    """Opens connections, and closes them at the end."""
    opened: list[Connected] = []

    async def open(vsn: str = "2.0.0") -> Connected:
        opened.append(await connect(HistorySocket, {"vsn": vsn}))
        return opened[-1]

    yield open
    for connected in opened:
        await connected.close()


async def come_back(client: Connect, topic: str, history: Any) -> tuple[Connected, Any]:
    """A new connection that joins with what it says it has; and the answer of the join."""
    socket = await client()
    channel = await socket.join(topic, {"history": history})
    return socket, channel.reply["history"]


async def frames(socket: Connected, topic: str, count: int) -> list[list[Any]]:
    """The next broadcasts and pushes on `topic`."""
    return [await socket._take(lambda f: f[2] == topic) for _ in range(count)]


@contextlib.contextmanager
def withheld() -> Iterator[list[Broadcast]]:
    """Keep back the broadcasts that are kept inside the ``with`` block, as a slow layer would."""
    sequencer, kept_back = get_node().pubsub.sequencer, list[Broadcast]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequencer, "offer", kept_back.append)
        yield kept_back


class Bounded(Room):
    history = History(size=100, ttl=60, max_bytes=20_000, max_replay_bytes=9_000)


class BoundedSocket(Socket):
    channels = {"room:*": Bounded}


async def bounded(topic: str, history: Any) -> tuple[Connected, Any]:
    socket = await connect(BoundedSocket, {"vsn": "2.0.0"})
    return socket, (await socket.join(topic, {"history": history})).reply["history"]


class Counting(MemoryState):
    """A state that counts its readings, and answers late or never if a test wants that."""

    def __init__(self) -> None:
        super().__init__(lease=1000.0)
        self.reads = self.rewinds = self.at_once = self.most_at_once = 0
        self.fails = False

    async def since(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        for _ in range(5):
            await asyncio.sleep(0)
        self.at_once -= 1
        if self.fails:
            raise StateTimeout("too slow")
        return await super().since(*args, **kwargs)

    async def rewind(self, *args: Any, **kwargs: Any) -> Any:
        self.rewinds += 1
        await asyncio.sleep(0)
        if self.fails:
            raise StateTimeout("too slow")
        return await super().rewind(*args, **kwargs)


async def counting() -> tuple[Node, Counting]:
    node, state = Node(), Counting()
    node.heartbeat.state = node.pubsub.sequencer._state = state
    await node.heartbeat.beat()
    return node, state


LARGE = History(size=1000, ttl=60, max_bytes=2**23, max_replay_bytes=2**23)
