"""Rooms with all that a process keeps, and what it keeps, counted: ``uvicorn tests.soak.app:application``."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections import Counter
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.soak.settings")

from phx_protocol import Channel, History, Presence, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.node.node import get_node  # noqa: E402
from phx_protocol.socket.server import ChannelServer  # noqa: E402
from phx_protocol.transports.http import Receive, Send, respond  # noqa: E402
from phx_protocol.wire import json  # noqa: E402


class Here(Presence):
    pass


class RoomChannel(Channel):
    presence = Here
    history = History(size=1000, ttl=60, events=["said"])

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_key(self) -> str:
        return str(self.socket.params["user_id"])

    @event("say")
    async def say(self, payload: Any) -> None:
        await self.broadcast("said", payload)

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("as planned")


class LoudChannel(Channel):
    """What a client that does not read cannot stand."""

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("shout")
    async def shout(self, payload: Any) -> None:
        await self.broadcast("shouted", {"text": "x" * 65_000})


class SoakSocket(Socket):
    channels = {"room:*": RoomChannel, "loud:*": LoudChannel}
    longpoll = {"WINDOW": 5}
    check_origin = False
    log = None


phoenix = get_phoenix_application()


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == "/kept":
        await respond(send, 200, json.encode(kept()), [])
    else:
        await phoenix(scope, receive, send)


def kept() -> dict[str, int]:
    """Return the objects that this process keeps, by kind, and its memory in KiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    node = get_node()
    with open("/proc/self/smaps_rollup") as smaps:
        rss = sum(int(line.split()[1]) for line in smaps if line.startswith("Rss:"))
    alive = Counter(type(thing) for thing in gc.get_objects())
    return {
        "rss": rss,
        "tasks": len(asyncio.all_tasks()),
        "sockets": len(node.connections),
        "topics": len(node.pubsub.registry),
        "groups": len(node.link.groups),
        "Socket objects": alive[SoakSocket],
        "ChannelServer objects": alive[ChannelServer],
        "Channel objects": alive[RoomChannel] + alive[LoudChannel],
    }
