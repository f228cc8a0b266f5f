"""Replies: the replies that a callback declares by its return annotation."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ...exceptions import EncodeError
from ...logs.printable import shown
from .payload_type import PayloadType

#: the status that stands for any other, where a reply's status is declared as ``str``
ANY_STATUS = "*"


class Replies:
    """The declared replies of a callback: the type of the payload for each status."""

    def __init__(self, declared: Mapping[str, PayloadType | None]) -> None:
        self.declared = declared

    @staticmethod
    def of(annotation: Any) -> Replies | None:
        """Return the replies that an annotation declares, as in ``tuple[Literal["ok"], Saved] | None``.

        None if it declares nothing: any status with any payload.
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

    def sent(self, status: str, payload: Any, where: str) -> Any:
        """Return the payload that goes out. Raises EncodeError if the reply is not as declared."""
        known = status if status in self.declared else ANY_STATUS
        if known not in self.declared:
            raise EncodeError(f"{where} is not as declared: the status {shown(status)}")
        wanted = self.declared[known]
        return payload if wanted is None else wanted.sent(payload, where)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _statuses(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(status) for status in typing.get_args(annotation)]
    return [ANY_STATUS] if annotation is str else []
