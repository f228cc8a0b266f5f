from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from phx_protocol import Channel, adisconnect_user, areauthorize, event
from tests.conformance.channels import ConformanceSocket


class SmallSocket(ConformanceSocket):
    """Little may wait, and not for long."""

    outbound = {"bytes": 200_000, "seconds": 1, "hard_bytes": 4_000_000}
    max_frame_size = 200_000
    max_topic_length = 100
    inbound = 50


#: a body may be larger than what can be relayed
LARGE = {"MAX_BODY_SIZE": 8_000_000}


class PolledSocket(ConformanceSocket):
    """Its polls end soon, and yet a busy machine ends no session."""

    longpoll = {"WINDOW": 5, "SESSION_TIMEOUT": 5, **LARGE}


class PolledSlowlySocket(ConformanceSocket):
    """Its sessions live on when they are not polled for a while."""

    longpoll = {"WINDOW": 15, **LARGE}


class HastySocket(ConformanceSocket):
    """Its answers must be taken soon, and its sessions live on meanwhile."""

    longpoll = {"SEND_TIMEOUT": 1, "WINDOW": 15}


class GuardedChannel(Channel):
    """Open until somebody shuts it, on all processes."""

    async def join(self, payload: Any) -> Any:
        return "ok"

    async def authorize(self) -> bool:
        return self.params.get("stays", "yes") == "yes" or not self.assigns.get(
            "joined"
        )

    async def after_join(self) -> None:
        self.assigns["joined"] = True

    @event("shut")
    async def shut(self, payload: Any) -> Any:
        await areauthorize(topic=self.topic)
        return "ok"

    @event("log_out")
    async def log_out(self, payload: Any) -> Any:
        await adisconnect_user(SimpleNamespace(pk=payload["user"]))
        return "ok"


class GuardedSocket(ConformanceSocket):
    """A client is whom it says, and leaves when it is asked to (``stays=no``)."""

    channels = {"guarded": GuardedChannel}

    async def connect(self, params: dict[str, Any]) -> None:
        self.scope["user"] = SimpleNamespace(pk=params["user"], is_authenticated=True)
