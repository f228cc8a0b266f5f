"""Baseline L, the limit: a bare uvloop server that writes one prebuilt frame to each socket.

python -m benchmarks.limit PORT

It knows just enough of WebSocket and of Phoenix Channels to be driven by phxload.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sys
from collections import defaultdict
from typing import Any

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
CLOSE = 8

subscribers: defaultdict[str, dict[Client, None]] = defaultdict(dict)
blasts: set[asyncio.Task[None]] = set()


def frame(message: list[Any]) -> bytes:
    """A text frame as a server sends it."""
    data = json.dumps(message, separators=(",", ":")).encode()
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + data
    return b"\x81\x7f" + size.to_bytes(8, "big") + data


def take_frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """(opcode, payload, what follows) of a client's frame, or None while it is incomplete."""
    if len(buffer) < 6:
        return None
    size, at = buffer[1] & 127, 2
    if size == 126:
        size, at = int.from_bytes(buffer[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(buffer[2:10], "big"), 10
    end = at + 4 + size
    if len(buffer) < end:
        return None
    mask = (buffer[at : at + 4] * (size // 4 + 1))[:size]
    masked = int.from_bytes(buffer[at + 4 : end], "big")
    data = (masked ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return buffer[0] & 15, data, buffer[end:]


def broadcast(topic: str, event: str, payload: Any) -> None:
    data = frame([None, None, topic, event, payload])
    for client in subscribers[topic]:
        client.transport.write(data)


class Client(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""
        self.is_open = False
        self.topics: tuple[str, ...] = ()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            if b"\r\n\r\n" not in self.buffer:
                return
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.accept(head)
        while (taken := take_frame(self.buffer)) is not None:
            opcode, payload, self.buffer = taken
            if opcode == CLOSE:
                self.transport.close()
                return
            self.handle(*json.loads(payload))

    def accept(self, head: bytes) -> None:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        digest = hashlib.sha1((key[1] if key else b"") + GUID).digest()
        self.transport.write(ACCEPT % base64.b64encode(digest))
        self.is_open = True

    def handle(
        self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any
    ) -> None:
        reply = {"status": "ok", "response": payload if event == "echo" else {}}
        answer = frame([join_ref, ref, topic, "phx_reply", reply])
        if event == "shout":
            broadcast(topic, "shout", payload)
        elif event == "blast":
            task = asyncio.create_task(self.blast(topic, payload, answer))
            blasts.add(task)
            task.add_done_callback(blasts.discard)
        else:
            if event == "phx_join":
                subscribers[topic][self] = None
                self.topics += (topic,)
            self.transport.write(answer)

    async def blast(self, topic: str, payload: Any, answer: bytes) -> None:
        for i in range(payload["count"]):
            broadcast(topic, "m", {"i": i, "p": payload["payload"]})
            await asyncio.sleep(0)
        self.transport.write(answer)

    def connection_lost(self, exception: Exception | None) -> None:
        for topic in self.topics:
            subscribers[topic].pop(self, None)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
