"""Channels and what they are mounted with, for tests that do not care what a room does."""

from __future__ import annotations

from typing import Any

from phx_protocol import Channel


class OpenRoom(Channel):
    """Lets everybody in, and has no events of its own."""

    async def join(self, payload: Any) -> Any:
        return "ok"
