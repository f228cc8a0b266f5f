"""The application for tests of metrics and traces: ``uvicorn tests.contrib.metrics_asgi:application``."""

from __future__ import annotations

import os
from typing import Any

from phx_protocol import event
from tests.support.rooms import DoorRoom, DoorSocket


class Room(DoorRoom):
    intercepts = {"whispered"}

    @event("say")
    async def say(self, payload: Any) -> Any:
        await self.broadcast("said", payload)
        return "ok"

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast("whispered", payload)
        return "ok"

    @event("answer")
    async def answer(self, payload: Any) -> Any:
        return payload["status"]

    @event("listen")
    async def listen(self, payload: Any) -> Any:
        await self.subscribe(payload["topic"])
        return "ok"

    @event("flood")
    async def flood(self, payload: Any) -> None:
        for _ in range(20):  # of what cannot be compressed well
            await self.push("water", {"drops": os.urandom(500_000).hex()})

    @event("crash")
    async def crash(self, payload: Any) -> None:
        raise ZeroDivisionError("crash")

    async def handle_info(self, message: Any) -> None:
        await self.push("heard", {"event": message.event})


class Doors(DoorSocket):
    channels = {"room:*": Room}
    check_origin = False
    outbound = {"seconds": 60, "hard_bytes": 32 * 1024 * 1024}
