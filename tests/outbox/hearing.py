"""Who hears what an outbox sends, and the channels of its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from phx_protocol import Channel, History, Socket
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.history.streams import Streams
from phx_protocol.node.node import Node
from phx_protocol.socket.routes import history_of
from phx_protocol.wire.messages import Broadcast
from phx_protocol.wire.serializers import decode_payload


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class KeptChannel(RoomChannel):
    history = History(size=5000, ttl=600)


class PartlyKeptChannel(RoomChannel):
    history = History(size=5000, ttl=600, events={"kept"})


class OutboxSocket(Socket):
    channels = {
        "room:*": RoomChannel,
        "kept:*": KeptChannel,
        "partly:*": PartlyKeptChannel,
    }


class Hearing:
    """A subscriber that remembers all broadcasts, and can be waited for."""

    fastlane = None

    def __init__(self, node: Node, topics: tuple[str, ...]) -> None:
        self._node, self._topics = node, topics
        self.broadcasts: list[Broadcast] = []
        self._more = asyncio.Event()

    @classmethod
    async def of(cls, node: Node, *topics: str) -> Hearing:
        hearing = cls(node, topics)
        for topic in topics:
            await node.ready(topic)
            history = history_of(topic)
            if history is not None:
                nothing = RecoveryRequest(None, frozenset())
                await node.part(Streams, topic).catch_up(topic, history, nothing)
            node.pubsub.subscribe(topic, hearing)
        return hearing

    def close(self) -> None:
        for topic in self._topics:
            self._node.pubsub.unsubscribe(topic, self)

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        self.broadcasts.append(broadcast)
        self._more.set()

    def interrupt(self) -> None:
        self.deliver_broadcast(Broadcast("", "history lost", b""))

    def payloads(self, topic: str | None = None) -> list[Any]:
        return [
            decode_payload(b)
            for b in self.broadcasts
            if topic is None or b.topic == topic
        ]

    def numbers(self, topic: str | None = None) -> list[int]:
        return [payload["n"] for payload in self.payloads(topic)]

    async def until(self, is_done: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not is_done():
                self._more.clear()
                await self._more.wait()

    async def count(self, n: int, seconds: float = 30.0) -> None:
        """Wait until so many broadcasts have come."""
        await self.until(lambda: len(self.broadcasts) >= n, seconds)
