"""Visitors that come and go: clients that come back with their offsets, as pages with history.js do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.poll_client import Poller

Gone = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError)


class Ledger:
    """The messages that all visitors saw."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.losses: list[str] = []  # messages that are missing, and nobody said so


class Reading:
    """How far a client has read a topic. It must have learned of what it missed."""

    def __init__(self, ledger: Ledger, who: str) -> None:
        self.offset: str | None = None
        self._ledger = ledger
        self._who = who

    def joined(self, history: dict[str, Any]) -> None:
        if history["recovered"]:
            self._ledger.counts["recovered"] += 1
        else:
            self._ledger.counts["learned that something is missing"] += (
                self.offset is not None
            )
            self.offset = history["offset"]

    def read(self, offset: str | None) -> None:
        self._ledger.counts["said"] += 1
        if offset is None:
            return  # it was not kept: the state is away, and the client will learn of it
        if self.offset is not None:
            (era, place), (now, next_place) = _parse(self.offset), _parse(offset)
            if (now, next_place) != (era, place + 1):
                self._ledger.losses.append(f"{self._who}: {offset} after {self.offset}")
        self.offset = offset


def _parse(offset: str) -> tuple[str, int]:
    era, _, place = offset.rpartition("-")
    return era, int(place)


class Visitor:
    """Comes to a room over WebSocket, talks, crashes it now and then, goes, and comes back."""

    def __init__(
        self, number: int, rooms: int, urls: list[str], ledger: Ledger, pace: float
    ) -> None:
        self._random = random.Random(number)
        self._who = f"visitor{number}"
        self._room = f"room:{number % rooms}"
        self._urls = urls
        self._ledger = ledger
        self._pace = pace  # 2 for half as much
        self._reading = Reading(ledger, self._who)
        self._refs = itertools.count(1)
        self._join_ref = ""

    async def run(self) -> None:
        while True:
            url = f"{self._random.choice(self._urls)}/socket/websocket?vsn=2.0.0&user_id={self._who}"
            with contextlib.suppress(*Gone):
                ws = await connect(url, max_queue=None, ping_interval=None, proxy=None)
                try:
                    await self._stay(ws)
                finally:
                    if self._random.random() < 0.3:
                        ws.transport.abort()
                    await ws.close()
            await asyncio.sleep(self._random.uniform(0, 1))

    async def _stay(self, ws: ClientConnection) -> None:
        await self._join(ws)
        talking = asyncio.create_task(self._talk(ws))
        try:
            async with asyncio.timeout(self._pace * self._random.uniform(2, 15)):
                async for text in ws:
                    await self._take(ws, *json.loads(text))
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _join(self, ws: ClientConnection) -> None:
        self._join_ref = str(next(self._refs))
        have = {"offset": self._reading.offset, "senders": []}
        join = [
            self._join_ref,
            self._join_ref,
            self._room,
            "phx_join",
            {"history": have},
        ]
        await ws.send(json.dumps(join))

    async def _talk(self, ws: ClientConnection) -> None:
        while True:
            await asyncio.sleep(self._pace * self._random.uniform(2, 10))
            event = self._random.choice(["say"] * 10 + ["echo"] * 9 + ["crash"])
            ref = str(next(self._refs))
            await ws.send(
                json.dumps([self._join_ref, ref, self._room, event, {"by": self._who}])
            )
            self._ledger.counts[event] += 1

    async def _take(
        self,
        ws: ClientConnection,
        join_ref: Any,
        ref: Any,
        topic: str,
        event: str,
        payload: Any,
    ) -> None:
        if event == "said":
            self._reading.read(ref)
        elif event == "phx_reply" and ref == self._join_ref:
            self._reading.joined(payload["response"]["history"])
        elif event == "phx_reply":
            self._ledger.counts["echoed"] += payload["status"] == "ok"
        elif event == "phx_error":
            self._ledger.counts["crashed"] += 1
            await asyncio.sleep(0.05)
            await self._join(ws)


class Polling(Poller):
    """The same over long-poll, for as long as its sessions last."""

    def __init__(self, address: str, number: int, rooms: int, ledger: Ledger) -> None:
        super().__init__(address, "/socket", user_id=f"poller{number}")
        self._room = f"room:{number % rooms}"
        self._ledger = ledger
        self._reading = Reading(ledger, f"poller{number}")
        self._random = random.Random(-number)

    async def stay(self) -> None:
        try:
            async with self:
                await self.join(self._room)
                while True:
                    await asyncio.sleep(self._random.uniform(1, 4))
                    await self.push(self._room, "say", {"by": "a poller"})
        finally:
            self._running.cancel()

    def join_payload(self, topic: str, ref: str) -> dict[str, Any]:
        self._join_ref = ref
        return {"history": {"offset": self._reading.offset, "senders": []}}

    def _take(self, frame: list[Any]) -> None:
        super()._take(frame)
        _, ref, topic, event, payload = frame
        if event == "said":
            self._reading.read(ref)
            self._ledger.counts["polled"] += 1
        elif event == "phx_reply" and ref == self._join_ref:
            self._reading.joined(payload["response"]["history"])
        elif event == "phx_error":
            self._send_join(topic)


async def again_and_again(act: Callable[[], Any]) -> None:
    """Run `act`; an error of it or of the server does not matter."""
    while True:
        with contextlib.suppress(*Gone):
            await act()
        await asyncio.sleep(0.5)
