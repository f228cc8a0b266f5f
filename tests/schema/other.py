"""Classes that have the names of others."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec
import pydantic

from phx_protocol import Channel


class Message(msgspec.Struct):
    of_other_struct: str


class Comment(pydantic.BaseModel):
    of_other_comment: list[Comment]


class Model(pydantic.BaseModel):
    of_model: int


class models:
    class Model(pydantic.BaseModel):
        of_other_model: str


class Mood(enum.Enum):
    BAD = "bad"


@dataclasses.dataclass
class Push:
    of_other_push: int


class RoomChannel(Channel):
    pushes = {"other": Message}

    async def join(self, payload: Any) -> Any:
        return "ok"


def third() -> type[Channel]:
    class RoomChannel(Channel):
        pushes = {"third": Message}

        async def join(self, payload: Any) -> Any:
            return "ok"

    RoomChannel.__qualname__ = "RoomChannel"
    return RoomChannel


THIRD = third()
