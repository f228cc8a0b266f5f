"""Rooms in which everything happens that a signal tells of."""

from __future__ import annotations

from typing import Any

import msgspec

from phx_protocol import Presence, event
from tests.support.rooms import DoorRoom, DoorSocket


class Words(msgspec.Struct):
    body: str


class Guests(Presence):
    pass


class Room(DoorRoom):
    log_handle_in = None

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


class Doors(DoorSocket):
    channels = {"room:*": Room, "guests:*": Guested}
