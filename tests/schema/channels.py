"""Sockets that declare something of every kind."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pydantic

from phx_protocol import Channel, Presence, Socket, event


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Author(msgspec.Struct):
    """Who wrote it."""

    name: str
    id: UUID


class NewMessage(msgspec.Struct):
    """What a client wants to say."""

    body: str
    mood: Mood = Mood.GOOD
    reply_to: int | None = None
    tags: list[str] = []


class Message(msgspec.Struct):
    """What was said, as everybody sees it."""

    id: int
    body: str
    author: Author
    at: datetime
    counts: dict[str, int]
    size: tuple[int, int]


class Text(msgspec.Struct, tag="text"):
    text: str


class Image(msgspec.Struct, tag="image"):
    url: str


@dataclasses.dataclass
class Move:
    x: int
    y: float


class Entry(TypedDict, total=False):
    name: str


class Line(pydantic.BaseModel):
    item: str
    count: int


class Order(pydantic.BaseModel):
    """A pydantic model with another in it."""

    lines: list[Line]


class Problem(TypedDict):
    reason: str
    fields: dict[str, list[str]]


class Here(Presence):
    pass


class RoomChannel(Channel):
    """A room, in which people talk.

    Its second paragraph ends a comment: */
    """

    presence = Here
    pushes = {"message": Message, "part": Text | Image, "moved": Move, "cleared": dict}

    async def join(
        self, payload: Entry
    ) -> tuple[Literal["ok"], Message] | Literal["error"]:
        """Accept every client with a name."""
        return "error"

    @event("new_msg")
    async def new_msg(
        self, payload: NewMessage
    ) -> tuple[Literal["ok"], Message] | tuple[Literal["error"], Problem]:
        """Say something."""
        return "error", {"reason": "no", "fields": {}}

    @event("order now!")
    async def order(self, payload: Order) -> None:
        pass

    @event("anything")
    async def anything(self, payload: Any) -> Any:
        return "ok", payload

    @event("move")
    def move(self, payload: Move) -> Literal["ok", "blocked"]:
        return "ok"


class LobbyChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class ChatSocket(Socket):
    """Where people talk."""

    channels = {"room:lobby": LobbyChannel, "room:*": RoomChannel, "*": LobbyChannel}


class BackOfficeSocket(Socket):
    channels = {"orders`${x}:*": RoomChannel}
    longpoll = True


SOCKETS = {"/socket": ChatSocket, "/back-office/v1": BackOfficeSocket}
