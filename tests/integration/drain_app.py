"""Rooms to be drained: ``uvicorn tests.integration.drain_app:application``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.drain_settings")

from phx_protocol import Channel, History, Reason, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests.support import leases  # noqa: E402
from tests.support.rooms import OpenRoom  # noqa: E402


class BusyChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("work")
    async def work(self, payload: Any) -> None:
        """Goes on for a while: it is to be done before the process goes."""
        await self.push("working", {})
        await asyncio.sleep(payload["seconds"])
        print("WORK DONE", flush=True)

    async def terminate(self, reason: Reason) -> None:
        print("TERMINATED", str(reason), flush=True)


class SyncChannel(OpenRoom):
    def terminate(self, reason: Reason) -> None:
        print("TERMINATED IN A THREAD", str(reason), flush=True)


class NewsChannel(OpenRoom):
    history = History(size=10_000, ttl=120)


class DrainedSocket(Socket):
    channels = {"busy:*": BusyChannel, "news:*": NewsChannel, "sync:*": SyncChannel}
    longpoll = {"WINDOW": 10}
    check_origin = False


leases.beat_often()
application = get_phoenix_application()
