"""Sockets for clients that poll."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import Channel, ConnectionRefused, Reason, Socket, event
from tests.support.asgi_poll_client import Client

HEARTBEAT = [None, "9", "phoenix", "heartbeat", {}]


@pytest.fixture(autouse=True)
def _ended() -> None:
    RoomChannel.ended = asyncio.Queue()


class RoomChannel(Channel):
    #: the topics of those that have ended, and why
    ended: asyncio.Queue[tuple[str, Reason]] = asyncio.Queue()

    async def join(self, payload: Any) -> Any:
        return "ok", {"token": self.socket.auth_token}

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("slow")
    async def slow(self, payload: Any) -> Any:
        await asyncio.Event().wait()

    async def terminate(self, reason: Reason) -> None:
        self.ended.put_nowait((self.topic, reason))


class PollSocket(Socket):
    channels = {"room:*": RoomChannel}
    longpoll = {"WINDOW": 0.3, "SESSION_TIMEOUT": 0.1, "MAX_BODY_SIZE": 50_000}
    shutdown_timeout = 0.1
    max_frame_size = 10_000
    inbound = 5

    async def connect(self, params: dict[str, Any]) -> None:
        if "status" in params:
            raise ConnectionRefused(int(params["status"]), params.get("reason", ""))
        if "crash" in params:
            raise RuntimeError("crash")

    def id(self) -> str | None:
        return self.params.get("id")


class PatientSocket(PollSocket):
    longpoll = True
    outbound = {"hard_bytes": 16 * 1024 * 1024}


async def opened(socket_class: type[Socket] = PollSocket, **params: Any) -> Client:
    client = Client(socket_class, params)
    assert (await client.open())["status"] == 410
    return client
