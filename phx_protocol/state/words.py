"""Words: what the scripts of the state are given, and what they answer, as values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from .base import NOWHERE, Position

Element = TypeVar("Element")

#: most groups, topics or names in one call of a script: all other calls wait for it
CHUNK = 500


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def chunks(
    sequence: Sequence[Element], size: int = CHUNK
) -> Iterator[Sequence[Element]]:
    return (sequence[i : i + size] for i in range(0, len(sequence), size))


def pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2])


def position(epoch: bytes | None, n: Any) -> Position:
    return NOWHERE if epoch is None else Position(epoch.decode(), int(n or 0))


def positions(flat: Sequence[Any]) -> list[Position]:
    return [position(*pair) for pair in pairs(flat)]
