"""Credential: what a token says of the client that sent it."""

from __future__ import annotations

from typing import Any, NamedTuple

from .permissions import Source


class Credential(NamedTuple):
    """The `user` whom a token names, until when it is valid, and how to load the user again.

    `expires_at` is in seconds of the epoch; None if the token does not end. Without a `source` a
    user who is a model is loaded by the primary key.
    """

    user: Any
    expires_at: float | None = None
    source: Source | None = None

    def outlives(self, expires_at: float | None) -> bool:
        """Return whether it ends at `expires_at` or later."""
        if self.expires_at is None:
            return True
        return expires_at is not None and self.expires_at >= expires_at
