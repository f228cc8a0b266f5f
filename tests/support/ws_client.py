"""A Phoenix client for tests that run a live server: V2 over the ``websockets`` library."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

TIMEOUT = 20


class Client:
    """``async with Client(url, user_id="a") as client``: an open connection."""

    def __init__(self, base: str, mount: str = "/socket", **params: str) -> None:
        query = "".join(f"&{name}={value}" for name, value in params.items())
        self.url = f"{base}{mount}/websocket?vsn=2.0.0{query}"
        self.refs = itertools.count(1)
        self.join_refs: dict[str, str] = {}
        self.ws: ClientConnection

    async def __aenter__(self) -> Client:
        self.ws = await connect(
            self.url, max_size=None, max_queue=None, ping_interval=None, proxy=None
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.ws.close()

    async def send(
        self, topic: str, event: str, payload: Any, join_ref: Any = None
    ) -> str:
        ref = str(next(self.refs))
        await self.ws.send(json.dumps([join_ref, ref, topic, event, payload]))
        return ref

    async def receive(self) -> list[Any]:
        """The next frame. TimeoutError when none comes."""
        async with asyncio.timeout(TIMEOUT):
            return list(json.loads(await self.ws.recv()))

    async def until(self, event: str, topic: str | None = None) -> Any:
        """The payload of the next frame with `event`; what comes before it is passed over."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                frame = json.loads(await self.ws.recv())
                if frame[3] == event and topic in (None, frame[2]):
                    return frame[4]

    async def reply(self, ref: str) -> tuple[str, Any]:
        async with asyncio.timeout(TIMEOUT):
            while True:
                frame = json.loads(await self.ws.recv())
                if frame[3] == "phx_reply" and frame[1] == ref:
                    return frame[4]["status"], frame[4]["response"]

    async def join(self, topic: str, payload: Any = None) -> tuple[str, Any]:
        ref = str(next(self.refs))
        self.join_refs[topic] = ref
        await self.ws.send(json.dumps([ref, ref, topic, "phx_join", payload or {}]))
        return await self.reply(ref)

    async def push(self, topic: str, event: str, payload: Any = None) -> str:
        return await self.send(topic, event, payload or {}, self.join_refs[topic])

    async def ask(self, topic: str, event: str, payload: Any = None) -> tuple[str, Any]:
        return await self.reply(await self.push(topic, event, payload))

    async def closed(self) -> int:
        """Read on until the server closes: its close code, 1006 when it just went."""
        async with asyncio.timeout(TIMEOUT):
            try:
                while True:
                    await self.ws.recv()
            except Exception:
                return self.ws.close_code or 1006
