"""Types that are recursive, generic, or have the name of another one; of msgspec and of pydantic."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Generic, Literal, TypedDict, TypeVar

import msgspec
import pydantic

from phx_protocol import Channel, Socket, event
from tests.schema import other

T = TypeVar("T")


class Message(msgspec.Struct):
    of_struct: int


class Comment(pydantic.BaseModel):
    text: str
    replies: list[Comment] = []


class Branch(msgspec.Struct):
    branches: list[Branch]
    leaf: Leaf | None = None


class Leaf(TypedDict):
    on: Branch


class Mood(enum.Enum):
    GOOD = "good"


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Sheet(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Account(pydantic.BaseModel):
    account_id: int = pydantic.Field(alias="accountId", serialization_alias="id")
    secret: str = pydantic.Field(exclude=True, default="")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def initial(self) -> str:
        return "a"


class Envelope(msgspec.Struct):
    about: Account
    thread: Comment | None = None


@dataclasses.dataclass
class Push:
    """As phoenix.js's, by name."""

    force: int


class Record(msgspec.Struct):
    values: dict[int, float]


def local(**fields: Any) -> Any:
    """A class as a function would define it: again and again under one name."""

    class Local(msgspec.Struct):
        pass

    return msgspec.defstruct("Local", list(fields.items()), module=Local.__module__)


ONE, TWO = local(one=int), local(two=str)


class RoomChannel(Channel):
    pushes = {
        "struct": Message,
        "other struct": other.Message,
        "model": other.Model,
        "other model": other.models.Model,
        "mood": dict[str, Mood | None],
        "other mood": dict[str, other.Mood],
        "tree": Branch,
        "page": Page[Message],
        "other page": Page[other.Message],
        "deep page": Page[Page[int]],
        "sheet": Sheet[other.Model],
        "other sheet": Sheet[other.models.Model],
        "push": Push,
        "record": Record,
        "one": ONE,
        "two": TWO,
        "account": Account,
        "shape": Push | other.Push,
        "envelope": Envelope,
    }

    async def join(self, payload: Account) -> tuple[Literal["ok"], Account]:
        raise NotImplementedError

    @event("comment")
    async def comment(self, payload: Comment) -> tuple[Literal["ok"], list[Comment]]:
        raise NotImplementedError

    @event("model")
    async def model(self, payload: other.Comment | None) -> None:
        pass


class RoomSocket(Socket):
    channels = {"room": RoomChannel, "other": other.RoomChannel, "third": other.THIRD}


SOCKETS = {"/socket": RoomSocket}
