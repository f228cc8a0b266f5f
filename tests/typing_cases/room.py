"""Code that mypy must accept or refuse: an unused ignore is an error too."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from phx_protocol import Channel, event


class NewMessage(msgspec.Struct):
    body: str


class Saved(msgspec.Struct):
    id: int


class RoomChannel(Channel):
    pushes = {"saved": Saved}

    async def join(self, payload: NewMessage) -> Literal["ok", "error"]:
        payload.text  # type: ignore[attr-defined]
        return "ok"

    @event("save")
    async def save(
        self, payload: NewMessage
    ) -> tuple[Literal["ok"], Saved] | tuple[Literal["error"], dict[str, str]]:
        if not payload.body:
            return "error", {"reason": "empty"}
        if payload.body == "x":
            return "fine", Saved(1)  # type: ignore[return-value]
        if payload.body == "y":
            return "ok", NewMessage("y")  # type: ignore[return-value]
        return "ok", Saved(len(payload.body))

    @event("sync")
    def sync(self, payload: Any) -> str:
        return "ok"

    @event("number")  # type: ignore[type-var]
    async def number(self, payload: Any) -> int:
        return 1

    @event("alone")  # type: ignore[type-var]
    async def alone(self) -> None: ...

    @event(5)  # type: ignore[arg-type]
    async def five(self, payload: Any) -> None: ...
