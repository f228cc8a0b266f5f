"""What an annotation declares, and whether msgspec or pydantic decodes it."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest

from phx_protocol.socket.payloads import PayloadType, PydanticType
from phx_protocol.socket.payloads.kinds import must_be_known


class Struct(msgspec.Struct):
    day: date


class Dict(TypedDict):
    choice: Literal["yes", "no"]


@dataclasses.dataclass
class Cat:
    lives: int


@dataclasses.dataclass
class Dog:
    tricks: int


class Model(pydantic.BaseModel):
    item: str


class Holder(msgspec.Struct):
    model: Model


class Foreign:
    """Neither of the two libraries knows it."""


@pytest.mark.parametrize("annotation", [Any, dict, dict[str, Any], bytes, object])
def test_these_annotations_declare_nothing(annotation: Any) -> None:
    assert PayloadType.of(annotation) is None


@pytest.mark.parametrize("annotation", [Struct, Dict, Cat, list[Cat], int, Holder])
def test_msgspec_decodes_its_own_types_and_those_of_python(annotation: Any) -> None:
    assert type(PayloadType.of(annotation)) is PayloadType


@pytest.mark.parametrize(
    "annotation",
    [Model, list[Model], Annotated[int, pydantic.Field(gt=0)], Cat | Dog],
    ids=["model", "list", "field", "what msgspec refuses"],
)
def test_pydantic_decodes_its_own_types_and_those_that_msgspec_refuses(
    annotation: Any,
) -> None:
    assert type(PayloadType.of(annotation)) is PydanticType


def test_a_type_that_neither_knows_is_an_error() -> None:
    must_be_known(list[Holder])
    with pytest.raises(TypeError, match="Foreign"):
        must_be_known(list[Foreign])
