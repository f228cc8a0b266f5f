"""Numbered messages over a cluster: which arrived, in which order, and when the layer said that some are lost."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from phx_protocol.layers import RedisLayer
from phx_protocol.layers.inbox import Message

#: seconds between two messages of a publisher on a group
EVERY = 0.01
#: seconds for which a message may be on its way before the layer notices that it will not arrive
ON_ITS_WAY = 0.5


class Subscriber:
    """Notes what arrives, and when messages may be lost."""

    def __init__(self, url: str) -> None:
        self.layer = RedisLayer(hosts=[url])
        self.got: dict[tuple[str, str], list[int]] = defaultdict(list)
        #: from when to when the layer says that messages are lost; the last one may be open
        self.cuts: list[list[float]] = []

    async def enter(self, groups: Sequence[str]) -> None:
        name = await self.layer.new_channel()
        self.channel = self.layer.deliver_to(name, self)
        await self.channel.groups_add(groups)

    def take(self, message: Message) -> None:
        self.got[message["group"], message["by"]].append(message["n"])

    def disconnected(self, error: Exception) -> None:
        assert not self.cuts or len(self.cuts[-1]) == 2
        self.cuts.append([time.monotonic()])

    def reconnected(self) -> None:
        self.cuts[-1].append(time.monotonic())

    def arrived(self) -> int:
        """How many messages arrived, of whichever publisher."""
        return sum(map(len, self.got.values()))

    @property
    def is_cut(self) -> bool:
        return bool(self.cuts) and len(self.cuts[-1]) == 1

    def may_lose(self, began: float, ended: float) -> bool:
        """True if a message that was sent then may be lost."""
        return any(
            cut[0] - ON_ITS_WAY <= ended and (len(cut) == 1 or began <= cut[1])
            for cut in self.cuts
        )


class Publisher:
    """Sends numbers to groups, and notes which of them Redis has taken, and when."""

    def __init__(self, url: str, name: str) -> None:
        self.layer = RedisLayer(hosts=[url])
        self.name = name
        #: group -> number -> when it was sent, when it was taken, or None
        self.sent: dict[str, dict[int, tuple[float, float | None]]] = defaultdict(dict)
        self.errors: list[Exception] = []

    async def open(self) -> None:
        """Have connections of its own, which send without waiting."""
        name = await self.layer.new_channel()
        self.channel = self.layer.deliver_to(name, self)

    def take(self, message: Message) -> None: ...
    def disconnected(self, error: Exception) -> None: ...
    def reconnected(self) -> None: ...

    def publish(self, group: str) -> None:
        sent = self.sent[group]
        n, began = len(sent), time.monotonic()
        sent[n] = began, None

        def done(answer: Any) -> None:
            if isinstance(answer, Exception):
                self.errors.append(answer)
            else:
                sent[n] = began, time.monotonic()

        message = {"type": "m", "group": group, "by": self.name, "n": n}
        self.channel.publish(group, message, done)

    async def run(self, groups: Sequence[str], stop: asyncio.Event) -> None:
        while not stop.is_set():
            for group in groups:
                self.publish(group)
            await asyncio.sleep(EVERY)


def look_at(publisher: Publisher, subscriber: Subscriber) -> dict[str, int]:
    """Assert that nothing came twice or out of order, or was lost in silence; return the counts."""
    counts = {"sent": 0, "taken": 0, "arrived": 0, "lost": 0}
    for group, sent in publisher.sent.items():
        got = subscriber.got[group, publisher.name]
        assert got == sorted(set(got)), (group, publisher.name)
        missing = {n for n, (_, taken) in sent.items() if taken} - {*got}
        for n in missing:
            began, ended = sent[n]
            assert ended is not None
            assert subscriber.may_lose(began, ended), (
                f"{group} {n}, sent at {began:.3f} to {ended:.3f}",
                subscriber.cuts,
            )
        counts["sent"] += len(sent)
        counts["taken"] += sum(1 for _, taken in sent.values() if taken)
        counts["arrived"] += len(got)
        counts["lost"] += len(missing)
    return counts
