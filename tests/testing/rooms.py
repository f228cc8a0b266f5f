"""A room, and a socket that may be refused."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest

from phx_protocol import Channel, ConnectionRefused, Reason, Socket, event
from phx_protocol.testing import TestChannel, clients, connect

ended: list[Reason] = []


class RoomChannel(Channel):
    intercepts = {"held"}

    async def join(self, payload: Any) -> Any:
        return "error" if self.subtopic == "closed" else "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        for name, said in payload.items():
            await self.broadcast(name, {"said": said})
        return "ok"

    @event("think")
    async def think(self, payload: Any) -> Any:
        for _ in range(payload):
            await asyncio.sleep(0)
        await self.push("thought", {})
        return "fine", {"n": payload}

    @event("silence")
    async def silence(self, payload: Any) -> None: ...

    @event("stuck")
    async def stuck(self, payload: Any) -> None:
        await asyncio.Event().wait()

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        await self.push("heard", {"payload": payload})
        if isinstance(payload, dict):
            payload["seen"] = True
        return "ok", payload

    @event("python")
    async def python(self, payload: Any) -> Any:
        when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        await self.push("values", {"when": when, 1: (1, 2), "nan": float("nan")})
        await self.broadcast("news", {"when": when})
        return "ok", when

    @event("unsayable")
    async def unsayable(self, payload: Any) -> None:
        await self.push("values", {"object": object()})

    @event("list")
    async def list(self, payload: Any) -> None:
        await self.push("values", [1])

    async def handle_out(self, event: str, payload: Any) -> None: ...

    async def terminate(self, reason: Reason) -> None:
        ended.append(reason)


class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}
    check_origin = ["//example.com"]

    async def connect(self, params: dict[str, Any]) -> None:
        self.assigns["name"] = params.get("name")
        match params.get("n"):
            case "1":
                raise ConnectionRefused(402, "pay first")
            case "2":
                raise ValueError
            case "3":
                await asyncio.Event().wait()

    def id(self) -> str | None:
        return self.assigns["name"]


@pytest.fixture(params=[True, False], ids=["wire", "direct"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def room(
    wire: bool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TestChannel]:
    monkeypatch.setattr(clients, "TIMEOUT", 1.0)
    socket = await connect(RoomSocket, wire=wire)
    channel = await socket.join("room:1")
    ended.clear()
    yield channel
    if socket.close_code is None and not ended:
        await socket.close()
