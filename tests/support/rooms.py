"""Channels and what they are mounted with, for tests that do not care what a room does."""

from __future__ import annotations

import os
from typing import Any

from phx_protocol import Channel, ConnectionRefused, Socket


class OpenRoom(Channel):
    """Lets everybody in, and has no events of its own."""

    async def join(self, payload: Any) -> Any:
        return "ok"


#: subtopic -> the result of a join of a DoorRoom
JOINS = {"lobby": "ok", "denied": "error", "forbidden": "refused", "crash": "crashed"}


class DoorRoom(Channel):
    """Ends a join as its subtopic wants."""

    async def authorize(self) -> bool:
        return self.subtopic != "forbidden"

    async def join(self, payload: Any) -> Any:
        if self.subtopic == "crash":
            raise RuntimeError("no join")
        if self.subtopic == "denied":
            return "error"
        return "ok", {"pid": os.getpid()}


class DoorSocket(Socket):
    """Ends a connect as its parameters want."""

    async def connect(self, params: dict[str, Any]) -> None:
        if "refuse" in params:
            raise ConnectionRefused
        if "crash" in params:
            raise RuntimeError("no connect")
