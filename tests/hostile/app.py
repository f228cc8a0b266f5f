"""The application that is attacked, and that measures the effect: ``uvicorn tests.hostile.app:application``.

``GET /bears`` tells what happened since it was asked last: MiB of memory, now and at most, and
milliseconds of processor time for which one turn of the loop held all others at most.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hostile.settings")

import msgspec  # noqa: E402
import pydantic  # noqa: E402

from phx_protocol import History, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.auth.credentials import Credential  # noqa: E402
from phx_protocol.tokens import TokenSocket  # noqa: E402
from phx_protocol.transports.http import Receive, Send, respond  # noqa: E402
from phx_protocol.wire import json  # noqa: E402
from tests.support.rooms import OpenRoom  # noqa: E402

#: seconds that a busy channel is busy
BUSY = 3


class Struct(msgspec.Struct):
    a: list[str]


class Model(pydantic.BaseModel):
    a: list[str]


class RoomChannel(OpenRoom):
    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("fast")
    async def fast(self, payload: Any) -> None:
        pass

    @event("busy")
    async def busy(self, payload: Any) -> None:
        await asyncio.sleep(BUSY)

    @event("plain")
    def plain(self, payload: Any) -> Any:
        return "ok"

    @event("shout")
    async def shout(self, payload: Any) -> None:
        await self.broadcast("shouted", payload)

    @event("struct")
    async def struct(self, payload: Struct) -> Any:
        return "ok"

    @event("model")
    async def model(self, payload: Model) -> Any:
        return "ok"


class SlowChannel(RoomChannel):
    """One whose joins wait."""

    async def join(self, payload: Any) -> Any:
        await asyncio.sleep(0.5)
        return "ok"


class TypedChannel(OpenRoom):
    async def join(self, payload: Model) -> Any:
        return "ok"


class InterceptingChannel(RoomChannel):
    intercepts = ("shouted",)

    async def handle_out(self, event: str, payload: Any) -> None:
        await asyncio.sleep(BUSY)
        await self.push(event, payload)


class HistoryChannel(RoomChannel):
    history = History()


class VictimSocket(Socket):
    channels = {
        "room:*": RoomChannel,
        "slow:*": SlowChannel,
        "typed:*": TypedChannel,
        "intercepting:*": InterceptingChannel,
        "history:*": HistoryChannel,
    }


class Anybody:
    is_authenticated = True
    pk = 1


class TokenVictim(TokenSocket):
    """Any text is a token, of one and the same user, and better than the one before."""

    channels = {"room:*": RoomChannel}
    token_param = "token"

    async def read_token(self, token: str) -> Credential:
        return Credential(Anybody(), time.time() + 3600)


phoenix = get_phoenix_application()


class Watch:
    """A clock within the loop that sees how much processor time passes between its ticks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = time.thread_time()
        self.held = 0.0
        self._tick()

    def _tick(self) -> None:
        now = time.thread_time()
        self.held = max(self.held, now - self._at)
        self._at = now
        self._loop.call_later(0.001, self._tick)

    def bears(self) -> dict[str, float]:
        """MiB and milliseconds, counted again from here on."""
        status = dict(
            line.split(":\t", 1)
            for line in Path("/proc/self/status").read_text().splitlines()
        )
        held, self.held = self.held, 0.0
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM is VmRSS again
        return {
            "memory": _mib(status["VmRSS"]),
            "most_memory": _mib(status["VmHWM"]),
            "held": held * 1000,
            "processor": time.process_time(),
        }


def _mib(text: str) -> float:
    return int(text.removesuffix(" kB")) / 1024


watch: Watch | None = None


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    global watch
    if scope["type"] == "http" and scope["path"] == "/bears":
        watch = watch or Watch()
        await respond(send, 200, json.encode(watch.bears()), [])
    else:
        await phoenix(scope, receive, send)
