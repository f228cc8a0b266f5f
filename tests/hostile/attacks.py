"""The attacks of one hostile connection: ``python -m tests.hostile.attacks PORT NAME``, until it is killed.

Frames are built once and go straight to the TCP socket, and any other process that wants the processor gets it
first: an attack costs the machine little and the server much. When the server closes the connection
the next one is made.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tests.hostile.payloads import DEPTH, PAYLOADS, ROOM, filled

TEXT = '{"a":"%s"}' % ("x" * (ROOM - 10))
#: seconds between two connections
AGAIN = 0.05


def frame(data: str | bytes) -> bytes:
    """A masked frame; the mask is zero, so that the payload is what it was."""
    payload = data.encode() if isinstance(data, str) else data
    opcode = 0x81 if isinstance(data, str) else 0x82
    if len(payload) < 126:
        head = struct.pack("!BB", opcode, 0x80 | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", opcode, 0xFE, len(payload))
    else:
        head = struct.pack("!BBQ", opcode, 0xFF, len(payload))
    return head + bytes(4) + payload


def v2(topic: str, event: str, payload: str = "{}", join: str = "1") -> bytes:
    return frame(f'["{join}","2",{json.dumps(topic)},"{event}",{payload}]')


def v1(topic: str, event: str, payload: str = "{}") -> bytes:
    return frame(
        f'{{"topic":"{topic}","event":"{event}","payload":{payload},"ref":"2"}}'
    )


def joins(*topics: str) -> bytes:
    return b"".join(v2(topic, "phx_join") for topic in topics)


class Connection:
    """A hostile connection, whose answers are read and thrown away if it `reads`."""

    def __init__(
        self,
        port: int,
        vsn: str = "2.0.0",
        reads: bool = True,
        mount: str = "/socket",
    ) -> None:
        self.socket = socket.socket()
        if not reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {mount}/websocket?vsn={vsn}&token=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if b" 101 " not in self.socket.recv(512):
            raise OSError("refused")
        if reads:
            self.read()

    def read(self) -> None:
        """Read what comes from now on."""
        threading.Thread(target=self._throw_away, daemon=True).start()

    def _throw_away(self) -> None:
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                time.sleep(0.005)  # the server's time is what it is about


Attack = Callable[[int], None]
begun: list[bool] = []


def begin() -> None:
    """Say that something of the attack is on its way, to who waits for it."""
    if not begun:
        begun.append(True)
        print("begun", flush=True)


ATTACKS: dict[str, Attack] = {}


def over_websocket(
    name: str,
    frames: Callable[[], Iterator[bytes]],
    *,
    vsn: str = "2.0.0",
    reads: bool = True,
    pause: float = 0,
    mount: str = "/socket",
) -> None:
    """An attack that sends `frames`, with `pause` seconds behind each."""

    def attack(port: int) -> None:
        prepared = frames()
        connection = Connection(port, vsn, reads, mount)
        with connection.socket:
            for data in prepared:
                connection.socket.sendall(data)
                begin()
                if pause:
                    time.sleep(pause)

    ATTACKS[name] = attack


def after(first: bytes, *then: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([first], itertools.cycle(then))


# ------------------------------------------------------------------ large frames


BUSY = [f"room:{n}" for n in range(100)]

#: what is done with a large payload: what is sent first, and then again and again
WAYS: dict[str, Callable[[str], tuple[bytes, ...]]] = {
    "where nobody joined": lambda p: (b"", v2("room:nobody", "echo", p)),
    "as a heartbeat": lambda p: (b"", v2("phoenix", "heartbeat", p)),
    "as a join": lambda p: (b"", v2("room:a", "phx_join", p)),
    "as a join of a typed channel": lambda p: (b"", v2("typed:a", "phx_join", p)),
    "as a join that waits": lambda p: (b"", v2("slow:a", "phx_join", p)),
    "as an event": lambda p: (joins("room:a"), v2("room:a", "fast", p)),
    "as an echo": lambda p: (joins("room:a"), v2("room:a", "echo", p)),
    "as a broadcast": lambda p: (joins("room:a"), v2("room:a", "shout", p)),
    "of a plain def": lambda p: (joins("room:a"), v2("room:a", "plain", p)),
    "of a struct": lambda p: (joins("room:a"), v2("room:a", "struct", p)),
    "of a model": lambda p: (joins("room:a"), v2("room:a", "model", p)),
    "of a busy channel": lambda p: (joins("room:a"), v2("room:a", "busy", p)),
    "of 100 busy channels": lambda p: (
        joins(*BUSY),
        *(v2(topic, "busy", p) for topic in BUSY[:6]),
    ),
    "intercepted": lambda p: (
        joins("intercepting:a"),
        v2("intercepting:a", "shout", p),
    ),
    "kept in a history": lambda p: (joins("history:a"), v2("history:a", "shout", p)),
}


IN_V1 = "as an echo in V1"


def large(payload: str, way: str) -> Callable[[], Iterator[bytes]]:
    def frames() -> Iterator[bytes]:
        first, *then = WAYS[way](PAYLOADS[payload]())
        return itertools.chain([first], itertools.cycle(then))

    return frames


def echoes_of_v1(payload: str) -> Callable[[], Iterator[bytes]]:
    def frames() -> Iterator[bytes]:
        text = '{"topic":"room:a","event":"echo","payload":%s,"ref":"2"}'
        data = frame(text % PAYLOADS[payload]())
        return itertools.chain([v1("room:a", "phx_join")], itertools.repeat(data))

    return frames


for name in PAYLOADS:
    for way in WAYS:
        over_websocket(f"{name} {way}", large(name, way))
    over_websocket(f"{name} {IN_V1}", echoes_of_v1(name), vsn="1.0.0")


def and_gone(way: str, count: int) -> Callable[[], Iterator[bytes]]:
    """A few frames, and a client that does not wait for what becomes of them."""

    def frames() -> Iterator[bytes]:
        first, *then = WAYS[way](PAYLOADS["nested lists"]())
        return itertools.chain([first], itertools.islice(itertools.cycle(then), count))

    return frames


over_websocket("a few nested lists, and gone", and_gone("as an echo", 4))
over_websocket(
    "a few nested lists of busy channels, and gone",
    and_gone("of 100 busy channels", 4),
)


# -------------------------------------------------------------------- many frames


def small(topic: str, event: str, count: int = 100) -> bytes:
    return b"".join(v2(topic, event) for _ in range(count))


def topics(count: int, length: int = 20, of: str = "x") -> Iterator[str]:
    for number in itertools.count():
        yield (f"room:{number % count}:" + of * length)[:length]


def ever_new(length: int, of: str) -> Iterator[bytes]:
    names = topics(10**9, length, of)
    while True:
        some = list(itertools.islice(names, 40))
        yield joins(*some) + b"".join(v2(topic, "phx_leave") for topic in some)


def batches(of: list[bytes]) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.cycle(of)


over_websocket("tiny heartbeats", after(b"", small("phoenix", "heartbeat")))
over_websocket("tiny echoes", after(joins("room:a"), small("room:a", "echo")))
over_websocket("tiny events of nobody", after(b"", small("room:a", "echo")))
over_websocket("tiny broadcasts", after(joins("room:a"), small("room:a", "shout")))
over_websocket(
    "tiny events of a busy channel", after(joins("room:a"), small("room:a", "busy"))
)
over_websocket(
    "tiny events of a plain def", after(joins("room:a"), small("room:a", "plain"))
)
over_websocket("tiny unmatched joins", after(b"", small("none:a", "phx_join")))
over_websocket("joins of the same topic", after(b"", small("room:a", "phx_join")))
over_websocket(
    "a thousand joins that wait",
    batches([joins(*(f"slow:{n}" for n in range(1000)))]),
    pause=0.6,
)
over_websocket(
    "a thousand joins that wait, and a client that is gone",
    lambda: iter([joins(*(f"slow:{n}" for n in range(1000))), b""]),
    pause=0.1,
)
over_websocket("joins and leaves of new topics", lambda: ever_new(20, "x"))
over_websocket("joins and leaves in emoji", lambda: ever_new(1024, "\U0001f600"))
over_websocket(
    "joins of too many topics",
    batches([joins(f"room:{n}") for n in range(1000)]),
)
over_websocket(
    "long events", after(joins("room:a"), v2("room:a", "\U0001f600" * 1024) * 20)
)
REF = ("[" * 500 + "]" * 500) + " " * 20
over_websocket(
    "long refs",
    batches([frame(f'[{REF},{REF},"phoenix","heartbeat",{{}}]') * 40]),
)
over_websocket("small binary frames", batches([frame(b"\0\0\0\0\0") * 100]))
over_websocket(
    "large binary frames",
    after(
        joins("room:a"),
        frame(b"\0\x01\x01\x06\x0412room:aecho" + bytes(1024 * 1024 - 200)),
    ),
)
over_websocket(
    "frames beyond the limit",
    batches([frame('["1","2","room:a","echo","%s"]' % ("x" * 3_000_000))]),
)
over_websocket(
    "a flood, then large frames",
    batches(
        [
            small("phoenix", "heartbeat", 300),
            *[v2("room:a", "echo", TEXT)] * 3,
        ]
    ),
    pause=0.1,
)
over_websocket(
    "frames in a thousand fragments",
    batches(
        [
            b"\x01\x81\0\0\0\0["
            + b"\x00\x81\0\0\0\0 " * 1000
            + b"\x80\xa3\0\0\0\0"
            + b'null,"2","phoenix","heartbeat",{} ]'
        ]
    ),
)


# ------------------------------------------------------------------------- tokens


def ever_new_tokens(length: int, *topics: str) -> Iterator[bytes]:
    yield joins(*(topic for topic in topics if topic != "phoenix"))
    for number in itertools.count():
        token = f"{number}".rjust(length, "x")
        payload = f'{{"access_token":"{token}"}}'
        yield b"".join(v2(topic, "access_token", payload) for topic in topics)


over_websocket(
    "ever new tokens on 100 channels",
    lambda: ever_new_tokens(100, *(f"room:{n}" for n in range(100))),
    mount="/tokens",
)
over_websocket(
    "ever new tokens as long as they may be",
    lambda: ever_new_tokens(16 * 1024, "phoenix"),
    mount="/tokens",
)


# ----------------------------------------------------------------- without reading

over_websocket(
    "echoes that nobody reads",
    after(joins("room:a"), v2("room:a", "echo", TEXT)),
    reads=False,
)
over_websocket(
    "tiny echoes that nobody reads",
    after(joins("room:a"), small("room:a", "echo")),
    reads=False,
)
over_websocket(
    "broadcasts that nobody reads",
    after(joins("room:a"), v2("room:a", "shout", TEXT)),
    reads=False,
)


# ----------------------------------------------------------------------- history


OFFSET = re.compile(rb'"offset":"([^"]+)-([0-9]+)"')


def claims(port: int) -> None:
    """Nearly all that one join replays, claimed again and again in a hundred bytes each."""
    connection = Connection(port, reads=False)
    with connection.socket as its_socket:
        its_socket.sendall(v2("history:full", "phx_join", '{"history":{}}'))
        while (found := OFFSET.search(its_socket.recv(65536))) is None:
            pass
        offset = found[0].decode()
        connection.read()
        text = '{"a":"%s"}' % ("x" * 50_000)
        its_socket.sendall(v2("history:full", "shout", text) * 20)
        claim = '{"history":{%s,"senders":[]}}' % offset
        for number in itertools.count():
            join = v2("history:full", "phx_join", claim, join=str(number))
            its_socket.sendall(join * 10)
            begin()


def floods_of_kept() -> Iterator[bytes]:
    yield joins(*(f"history:{n}" for n in range(100)))
    for number in itertools.count():
        yield v2(f"history:{number % 100}", "shout", '{"a":"%s"}' % ("x" * 200_000))


ATTACKS["a history that is claimed by many joins"] = claims
over_websocket("a hundred histories that are full", floods_of_kept, pause=0.002)


# ---------------------------------------------------------------------- long-poll


def request(
    port: int, method: str, token: str = "", body: bytes = b"", query: str = ""
) -> bytes:
    length = len(body)
    return (
        f"{method} /socket/longpoll?vsn=2.0.0&{query}&token={token} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n"
        "Content-Type: application/x-ndjson\r\n\r\n"
    ).encode() + body


class Session:
    """A long-poll session on one connection that is kept alive."""

    def __init__(self, port: int, query: str = "") -> None:
        self.port = port
        self._query = query
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.token = self.ask("GET")["token"]

    def ask(self, method: str, body: bytes = b"") -> dict[str, str]:
        self.socket.sendall(
            request(self.port, method, self.token_or_none(), body, self._query)
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some()
        head, data = data.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < length:
            data += self._some()
        answer: dict[str, str] = json.loads(data)
        if method == "POST":
            begin()
        return answer

    def token_or_none(self) -> str:
        return getattr(self, "token", "")

    def _some(self) -> bytes:
        if data := self.socket.recv(1 << 20):
            return data
        raise OSError("closed")


def posts(name: str, body: Callable[[], bytes]) -> None:
    def attack(port: int) -> None:
        session, data = Session(port), body()
        with session.socket:
            while True:
                session.ask("POST", data)

    ATTACKS[name] = attack


BODY = 2 * 1024 * 1024
NESTED = '["1","1","room:a","phx_join",{}]\n["1","2","room:a","echo",%s]'
posts("a body of newlines", lambda: b"\n" * BODY)
posts("a body of base64", lambda: (b"AAAA" * 400 + b"\n") * 999)
posts("a body of heartbeats", lambda: b'[null,"2","phoenix","heartbeat",{}]\n' * 999)
posts(
    "a body of a large echo",
    lambda: (NESTED % filled("[" * DEPTH + "]" * DEPTH)).encode(),
)


def new_sessions(port: int) -> None:
    while True:
        Session(port).socket.close()
        begin()


def connect_parameters(port: int) -> None:
    """Requests with as many parameters, as deep, as both servers take in one line."""
    deep = "".join(f"[{n % 10}]" for n in range(30))
    query = "&".join([*(f"a{n}=%C3%A9" for n in range(900)), f"b{deep}=c"])
    while True:
        Session(port, query).socket.close()
        begin()


def a_byte_a_second(port: int) -> None:
    connections = []
    session = Session(port)
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", port))
        whole = request(port, "POST", session.token, b"x" * BODY)
        connection.sendall(whole[: -BODY // 2])
        connections.append(connection)
    begin()
    while True:
        for connection in connections:
            connection.sendall(b"x")
        time.sleep(1)


def unread_answers(port: int) -> None:
    session = Session(port)
    session.ask("POST", b'["1","1","room:a","phx_join",{}]')
    stalled = []
    for _ in range(20):
        echo = '["1","2","room:a","echo",%s]' % TEXT
        if session.ask("POST", echo.encode()).get("status") != 200:
            break
        poll = socket.socket()
        poll.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        poll.connect(("127.0.0.1", port))
        poll.sendall(request(port, "GET", session.token))
        stalled.append(poll)
        time.sleep(0.1)
    for poll in stalled:
        poll.close()


ATTACKS["many connect parameters"] = connect_parameters
ATTACKS["ever new sessions"] = new_sessions
ATTACKS["bodies that come a byte a second"] = a_byte_a_second
ATTACKS["answers that nobody reads"] = unread_answers


def main(port: str, name: str) -> None:
    os.nice(19)
    attack = ATTACKS[name]
    while True:
        with contextlib.suppress(OSError):
            attack(int(port))
        time.sleep(AGAIN)


if __name__ == "__main__":
    main(*sys.argv[1:])
