from __future__ import annotations

import asyncio
from typing import Any

from phx_protocol import Channel, History, abroadcast, event
from tests.conformance.channels import ConformanceSocket, RoomChannel


class KeptChannel(Channel):
    """Keeps ``msg``; says it to all in each of the ways there are."""

    history = History(size=20, ttl=60, events={"msg"})

    async def join(self, payload: Any) -> Any:
        await asyncio.sleep(payload.get("slow", 0))
        return "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        await self.broadcast("msg", payload)
        return "ok"

    @event("announce")
    async def announce(self, payload: Any) -> Any:
        await abroadcast(self.topic, "msg", payload)
        return "ok"

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast_from("msg", payload)
        return "ok"

    @event("say_other")
    async def say_other(self, payload: Any) -> Any:
        await self.broadcast("other", payload)
        return "ok"

    @event("burst")
    async def burst(self, payload: Any) -> Any:
        for i in range(payload["from"], payload["to"]):
            await self.broadcast("msg", {"i": i})
        return "ok"


class MaskedChannel(KeptChannel):
    """Withholds what is not for its user, rewrites the rest, and takes its time with some."""

    intercepts = {"msg"}

    async def handle_out(self, event: str, payload: Any) -> None:
        await asyncio.sleep(payload.get("takes", 0))
        user = self.params["user"]
        if user not in payload.get("not_for", ()):
            await self.push(event, {**payload, "for": user})


class FullChannel(MaskedChannel):
    """Keeps everything, and intercepts some of it."""

    history = History(size=20, ttl=60)
    intercepts = {"msg"}


class RewoundChannel(KeptChannel):
    history = History(size=20, ttl=60, events={"msg", "bytes"}, rewind=3)

    @event("bytes")
    async def bytes(self, payload: Any) -> Any:
        await self.broadcast("bytes", bytes([payload["i"]]))
        return "ok"


class LongChannel(KeptChannel):
    history = History(size=5000, ttl=60, events={"msg"})


class SecretChannel(RoomChannel):
    """The room of the conformance application, and it is kept."""

    history = History(size=20, ttl=60, events={"secret", "shout"})


class HistorySocket(ConformanceSocket):
    channels = {
        "kept:*": KeptChannel,
        "masked:*": MaskedChannel,
        "full:*": FullChannel,
        "long:*": LongChannel,
        "rewound:*": RewoundChannel,
        "room:*": SecretChannel,
    }
    longpoll = {"WINDOW": 2}
