"""Topic patterns: ``"room:lobby"`` is that topic, ``"room:*"`` every topic with that beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ..exceptions import InvalidTopicPattern

Target = TypeVar("Target")


def check_pattern(pattern: object) -> str:
    """Return `pattern`. Raises InvalidTopicPattern: a ``*`` may only be its last character."""
    if not isinstance(pattern, str) or not pattern:
        raise InvalidTopicPattern(
            f"a topic pattern is a string that is not empty, not {pattern!r}"
        )
    if "*" in pattern[:-1]:
        raise InvalidTopicPattern(
            f"{pattern!r}: a * may only stand at the end of a topic pattern"
        )
    return pattern


class TopicPatterns(Generic[Target]):
    """Patterns in order, each with its target; the first pattern that matches wins.

    Mirrors ``Phoenix.Socket.channel/3``.
    """

    def __init__(self, patterns: Iterable[tuple[str, Target]]) -> None:
        self._patterns = [
            (check_pattern(pattern), target) for pattern, target in patterns
        ]

    def __iter__(self) -> Iterator[tuple[str, Target]]:
        return iter(self._patterns)

    def match(self, topic: str) -> tuple[Target, str] | None:
        """Return the target of `topic` and its subtopic (the part that ``*`` stands for), or None."""
        for pattern, target in self._patterns:
            if pattern[-1] == "*":
                if topic.startswith(pattern[:-1]):
                    return target, topic[len(pattern) - 1 :]
            elif topic == pattern:
                return target, ""
        return None

    def pattern_of(self, topic: str) -> str | None:
        """Return the pattern that matches `topic`, or None."""
        for pattern, _ in self._patterns:
            if topic == pattern or (
                pattern[-1] == "*" and topic.startswith(pattern[:-1])
            ):
                return pattern
        return None
