"""The tail of a topic: its broadcasts as they come, for the page of an operator.

They travel as server-sent events, which a browser asks for again when the connection breaks.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from ..conf import options
from ..logs.filters import filter_parameters
from ..logs.printable import bounded, printable
from ..node.node import get_node
from ..socket.routes import known_sockets
from ..wire import json
from ..wire.messages import Broadcast
from ..wire.serializers import decode_payload

#: most broadcasts in one portion; the others that come meanwhile are only counted
PORTION = 20
#: seconds between two portions
PAUSE = 0.2
#: seconds without a broadcast after which a sign of life is sent
ALIVE = 15.0
#: seconds after which a stream ends, and the browser asks again
LONGEST = 300.0
#: most streams of one process
MOST = 20
#: bytes of JSON beyond which a payload is not decoded, and most characters of it that are shown
DECODED, SHOWN = 32 * 1024, 500

_streams: set[Tail] = set()


class Tail:
    """A subscriber that collects what comes until the next portion is taken."""

    fastlane = None

    def __init__(self) -> None:
        self._waiting: deque[Broadcast] = deque()
        self._left_out = 0
        self._came = asyncio.Event()

    def deliver_broadcast(self, broadcast: Broadcast) -> None:
        if len(self._waiting) < PORTION:
            self._waiting.append(broadcast)
        else:
            self._left_out += 1
        self._came.set()

    async def portion(self) -> dict[str, Any] | None:
        """Return what has come, and how many more did; None if nothing came within ALIVE seconds."""
        try:
            async with asyncio.timeout(ALIVE):
                await self._came.wait()
        except TimeoutError:
            return None
        self._came.clear()
        left_out, self._left_out = self._left_out, 0
        messages = [_message(broadcast) for broadcast in self._waiting]
        self._waiting.clear()
        return {"messages": messages, "left_out": left_out}


def is_full() -> bool:
    """Return True if this process has as many streams as it may."""
    return len(_streams) >= MOST


async def stream(topic: str) -> AsyncIterator[bytes]:
    """Yield the broadcasts on `topic`, from all processes, as server-sent events."""
    node, tail, loop = get_node(), Tail(), asyncio.get_running_loop()
    end = loop.time() + LONGEST
    _streams.add(tail)
    try:
        await node.ready(topic)
        node.pubsub.subscribe(topic, tail)
        yield b": listening\n\n"
        while loop.time() < end:
            portion = await tail.portion()
            if portion is None:
                yield b": nothing yet\n\n"
            else:
                yield b"data: %b\n\n" % json.encode(portion)
                await asyncio.sleep(PAUSE)
    finally:
        _streams.discard(tail)
        node.pubsub.unsubscribe(topic, tail)


def _message(broadcast: Broadcast) -> dict[str, str]:
    sent_at = broadcast.sent_at or time.time()
    at = datetime.datetime.fromtimestamp(sent_at, datetime.timezone.utc)
    event, payload = printable(broadcast.event, 100), _shown(broadcast)
    return {"at": at.isoformat(), "event": event, "payload": payload}


def _shown(broadcast: Broadcast) -> str:
    """Return the payload as the log would show it: without hidden parameters, and not too long."""
    payload = broadcast.payload
    size = len(memoryview(payload))
    if isinstance(payload, bytes) or size > DECODED:
        kind = "bytes" if isinstance(payload, bytes) else "bytes of JSON"
        return f"<{size} {kind}>"
    value = bounded(decode_payload(broadcast))
    for socket_class in known_sockets():
        value = filter_parameters(value, options(socket_class).filter_parameters)
    return printable(json.encode(value).decode(), SHOWN)
