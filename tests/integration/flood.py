"""A client that sends as fast as it can: ``python flood.py URL KIND``, until it is killed.

Frames are built once and go straight to the TCP socket, and any other process that wants the processor gets
it first: the flood should cost the machine little and the server much. Whatever comes back is read
and thrown away. When the server closes the connection it is made again.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit


def frame(text: str) -> bytes:
    """A masked text frame; the mask is zero, so that the payload is what it was."""
    payload = text.encode()
    if len(payload) < 126:
        head = struct.pack("!BB", 0x81, 0x80 | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", 0x81, 0xFE, len(payload))
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, len(payload))
    return head + bytes(4) + payload


def message(
    ref: int, topic: str, event: str, payload: object, join: str = "1"
) -> bytes:
    return frame(json.dumps([join, str(ref), topic, event, payload]))


def joined(topic: str) -> bytes:
    return message(1, topic, "phx_join", {})


def events() -> Iterator[bytes]:
    yield joined("room:flood")
    yield from itertools.repeat(
        b"".join(message(n, "room:flood", "echo", {}) for n in range(100))
    )


def joins() -> Iterator[bytes]:
    yield from itertools.repeat(
        b"".join(
            joined(f"room:flood{n}") + message(2, f"room:flood{n}", "phx_leave", {})
            for n in range(50)
        )
    )


def topics() -> Iterator[bytes]:
    batches = [
        b"".join(joined(f"room:flood{start + n}") for n in range(100))
        for start in range(0, 10_000, 100)
    ]
    yield from itertools.cycle(batches)


def giants() -> Iterator[bytes]:
    yield joined("room:flood")
    giant = message(2, "room:flood", "noreply", {"x": "y" * 11_000_000})
    yield from itertools.repeat(giant)


def crashes() -> Iterator[bytes]:
    yield from itertools.repeat(
        b"".join(
            joined("room:crash") + message(2, "room:crash", "crash", {})
            for _ in range(50)
        )
    )


def heartbeats() -> Iterator[bytes]:
    beats = b"".join(
        frame(json.dumps([None, str(n), "phoenix", "heartbeat", {}]))
        for n in range(100)
    )
    yield from itertools.repeat(beats)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b" 101 " in connection.recv(65536)
    return connection


def throw_away(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            time.sleep(0.01)  # the flood should cost the time of the server


def main(url: str, kind: str) -> None:
    os.nice(19)
    kinds = (events, joins, topics, giants, crashes, heartbeats)
    flood = {function.__name__: function for function in kinds}[kind]
    while True:
        connection = connect(url)
        threading.Thread(target=throw_away, args=(connection,), daemon=True).start()
        try:
            for data in flood():
                connection.sendall(data)
        except OSError:
            connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
