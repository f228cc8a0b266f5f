"""Channels that record what they are called with."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from phx_protocol import Channel, JoinDenied, Reason, Socket, event
from phx_protocol.testing import TestChannel as Joined
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect


class Held:
    """Something that a callback has."""

    all: weakref.WeakSet[Held] = weakref.WeakSet()


class Recorder(Channel):
    """Writes down what happens to it; its handlers wait for gates of the test."""

    log: list[Any] = []
    gates: dict[str, asyncio.Event] = {}

    async def join(self, payload: Any) -> Any:
        if payload.get("gate"):
            await self.gate(payload["gate"])
        if payload.get("deny"):
            return "error", {"reason": "denied"}
        if payload.get("denied for good"):
            raise JoinDenied({"reason": "banned"}, permanent=True)
        if "return" in payload:
            return payload["return"]
        return "ok"

    async def gate(self, name: str) -> None:
        await self.gates.setdefault(name, asyncio.Event()).wait()

    @event("wait")
    async def wait(self, payload: Any) -> Any:
        self.log.append(f"wait {payload['gate']}")
        try:
            await self.gate(payload["gate"])
        finally:
            self.log.append(f"done {payload['gate']}")
        return "ok", payload

    @event("hold")
    async def hold(self, payload: Any) -> None:
        held = Held()
        Held.all.add(held)
        await self.gate("never")

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        self.log.append("echo")
        return "ok", payload

    @event("crash")
    async def crash(self, payload: Any) -> Any:
        raise RuntimeError("crash")

    @event("timeout")
    async def timeout(self, payload: Any) -> Any:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "ok", {"timed_out": True}

    @event("cancelled")
    async def cancelled(self, payload: Any) -> Any:
        await wait_for_what_is_cancelled()

    @event("stop")
    async def stop_now(self, payload: Any) -> Any:
        await self.stop()
        return "ok", payload

    @event("answer")
    async def answer(self, payload: Any) -> Any:
        return 5

    async def terminate(self, reason: Reason) -> None:
        self.log.append((reason, type(self.exception).__name__))


class RecorderSocket(Socket):
    channels = {"room:*": Recorder}


@pytest.fixture
async def socket() -> Any:
    Recorder.log, Recorder.gates = [], {}
    socket = await connect(RecorderSocket)
    yield socket
    if socket.close_code is None:
        await socket.close()


@pytest.fixture
async def room(socket: Connected) -> Joined:
    return await socket.join("room:1")


def open_gate(name: str) -> None:
    Recorder.gates.setdefault(name, asyncio.Event()).set()


async def wait_for_what_is_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


class Unlucky(Recorder):
    """The callback that `fails` names awaits something cancelled, or cannot be made at all."""

    fails = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.fails == "class":
            raise RuntimeError("crash")

    async def authorize(self) -> bool:
        if self.fails == "authorize":
            await wait_for_what_is_cancelled()
        return True

    async def join(self, payload: Any) -> Any:
        if self.fails == "join":
            await wait_for_what_is_cancelled()
        return "ok"

    async def terminate(self, reason: Reason) -> None:
        if self.fails == "terminate":
            await wait_for_what_is_cancelled()


class UnluckySocket(RecorderSocket):
    channels = {"unlucky:*": Unlucky}
    max_channels = 1


@pytest.fixture
async def unlucky() -> Any:
    Unlucky.fails = ""
    socket = await connect(UnluckySocket)
    yield socket
    await socket.close()
