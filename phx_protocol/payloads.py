"""Declared types of payloads: what comes is decoded and checked, what goes out is checked.

A type is a ``msgspec.Struct``, a dataclass, a TypedDict, a pydantic model, or anything else that
``msgspec.convert`` makes. ``Any``, ``dict``, ``Mapping`` and ``bytes`` declare nothing.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .exceptions import EncodeError, InvalidPayload
from .wire.json import plain

UNTYPED = (Any, object, dict, bytes, Mapping, inspect.Parameter.empty)

#: the status that stands for any other, where a reply's status is declared as ``str``
ANY_STATUS = "*"


class PayloadType:
    """What msgspec knows. `annotation` is the type itself."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    @staticmethod
    def of(annotation: Any) -> PayloadType | None:
        """The type that `annotation` declares, or None: it declares nothing."""
        if (typing.get_origin(annotation) or annotation) in UNTYPED:
            return None
        return (PydanticType if _is_pydantic(annotation) else PayloadType)(annotation)

    def decode(self, payload: Any) -> Any:
        """`payload` as it is declared. Raises InvalidPayload."""
        try:
            return msgspec.convert(payload, self.annotation)
        except msgspec.ValidationError as error:
            raise InvalidPayload([_located(error)]) from error

    def check(self, payload: Any, where: str) -> None:
        """Raise EncodeError when `payload`, which goes out, is not as `where` declares it."""
        try:
            self.decode(plain(payload))
        except InvalidPayload as invalid:
            found = "; ".join(f"{e['path']}: {e['message']}" for e in invalid.errors)
            raise EncodeError(f"{where} is not as declared: {found}") from invalid

    def verify(self) -> None:
        """Raise TypeError when this is no type that can be checked."""
        msgspec.json.schema(self.annotation)


class PydanticType(PayloadType):
    """A pydantic model, which tells of all that does not fit."""

    def decode(self, payload: Any) -> Any:
        import pydantic

        try:
            return self.annotation.model_validate(payload)
        except pydantic.ValidationError as error:
            found = [
                {"path": _path(at["loc"]), "message": at["msg"]}
                for at in error.errors(include_url=False, include_input=False)
            ]
            raise InvalidPayload(found) from error

    def verify(self) -> None:
        """It has been checked when its class was made."""


class Replies:
    """What a callback answers: the type of the payload for each status."""

    def __init__(self, declared: Mapping[str, PayloadType | None]) -> None:
        self.declared = declared

    @staticmethod
    def of(annotation: Any) -> Replies | None:
        """As a return annotation declares them: ``tuple[Literal["ok"], Saved] | None``, say.

        None when it declares nothing: any status, with anything.
        """
        declared: dict[str, PayloadType | None] = {}
        for answer in _members(annotation):
            if typing.get_origin(answer) is tuple and len(typing.get_args(answer)) == 2:
                status, payload = typing.get_args(answer)
                declared.update(
                    dict.fromkeys(_statuses(status), PayloadType.of(payload))
                )
            else:
                for status in _statuses(answer):
                    declared.setdefault(status, None)
        return (
            Replies(declared) if declared and declared != {ANY_STATUS: None} else None
        )

    def check(self, status: str, payload: Any, where: str) -> None:
        """Raise EncodeError when the reply is not as it was declared."""
        known = status if status in self.declared else ANY_STATUS
        if known not in self.declared:
            raise EncodeError(f"{where} is not as declared: the status {status!r}")
        wanted = self.declared[known]
        if wanted is not None:
            wanted.check(payload, where)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _statuses(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(status) for status in typing.get_args(annotation)]
    return [ANY_STATUS] if annotation is str else []


def _is_pydantic(annotation: Any) -> bool:
    pydantic = sys.modules.get("pydantic")  # who has a model has imported it
    if pydantic is None or not isinstance(annotation, type):
        return False
    return issubclass(annotation, pydantic.BaseModel)


_WHERE = re.compile(r"(?P<message>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)


def _located(error: msgspec.ValidationError) -> dict[str, str]:
    """Where a payload does not fit (``$.body``), and what was expected."""
    match = _WHERE.fullmatch(str(error))
    assert match is not None
    return {"path": match["path"] or "$", "message": match["message"]}


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{at}]" if isinstance(at, int) else f".{at}" for at in location)
    return "$" + "".join(steps)
