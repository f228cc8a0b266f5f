"""A user who is in no database."""

from __future__ import annotations


class Visitor:
    """Its key is its name."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.pk = name

    def get_username(self) -> str:
        return self.pk
