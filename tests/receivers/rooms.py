"""Rooms in which everything happens that a signal tells of."""

from __future__ import annotations

from typing import Any

import msgspec

from phx_protocol import Channel, ConnectionRefused, Presence, Socket, event


class Words(msgspec.Struct):
    body: str


class Guests(Presence):
    pass


class Room(Channel):
    log_handle_in = None

    async def authorize(self) -> bool:
        return self.subtopic != "forbidden"

    async def join(self, payload: Any) -> Any:
        if self.subtopic == "crash":
            raise RuntimeError("no join")
        return "error" if self.subtopic == "denied" else "ok"

    @event("say")
    async def say(self, words: Words) -> Any:
        return "ok"

    @event("crash")
    async def crash(self, payload: Any) -> None:
        raise ZeroDivisionError

    @event("silence")
    async def silence(self, payload: Any) -> None:
        pass

    @event("bye")
    async def bye(self, payload: Any) -> None:
        await self.stop()


class Guested(Room):
    presence = Guests


class Doors(Socket):
    channels = {"room:*": Room, "guests:*": Guested}

    async def connect(self, params: dict[str, Any]) -> None:
        if "refuse" in params:
            raise ConnectionRefused
        if "crash" in params:
            raise RuntimeError("no connect")
