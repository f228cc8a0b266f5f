"""A client that does not read is closed with 1013, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.poll_client import RawSession, messages
from tests.support.ws_client import Client

PAYLOAD = "x" * 65_000
#: how a close frame begins that has a code and no reason
CLOSE = b"\x88\x02"


class Stalled:
    """A connection that joins, and reads no more than the handshake until ``read_all`` is called."""

    def __init__(self, port: int, user_id: str, topic: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(
            f"GET /socket/websocket?vsn=2.0.0&user_id={user_id} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        text = json.dumps(["1", "1", topic, "phx_join", {}]).encode()
        self.socket.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)

    def read_all(self) -> bytes:
        """Everything that still comes, until the server has closed. A close frame is answered: the
        server waits for that, ten seconds or so."""
        self.socket.settimeout(20)
        data = b""
        try:
            while chunk := self.socket.recv(1 << 20):
                data += chunk
                if data[-4:-2] == CLOSE:
                    self.socket.sendall(b"\x88\x82\0\0\0\0" + data[-2:])
        except ConnectionResetError:
            pass
        return data


PLAIN = "asgi:application"


@pytest.mark.parametrize(
    "server, application",
    [
        ("uvicorn", PLAIN),
        ("frames", PLAIN),
        ("daphne", PLAIN),
        ("hypercorn", PLAIN),
        ("daphne", "wrapped_app:all_of_them"),
        pytest.param("daphne", "wrapped_app:by_table", marks=pytest.mark.big),
        pytest.param("daphne", "wrapped_app:sentry", marks=pytest.mark.big),
        pytest.param("daphne", "wrapped_app:telemetry", marks=pytest.mark.big),
        pytest.param("uvicorn", "wrapped_app:all_of_them", marks=pytest.mark.big),
        pytest.param("frames", "wrapped_app:all_of_them", marks=pytest.mark.big),
    ],
)
async def test_a_stalled_client_is_closed_and_the_others_get_everything(
    server: str, application: str, tmp_path: Path
) -> None:
    with servers.serve(
        server, tmp_path / "log", f"tests.integration.{application}"
    ) as running:
        async with Client(running.url) as log, Client(running.url) as good:
            await log.join("audit:log")
            await good.join("room:slow")
            stalled = Stalled(running.port, "stalled", "room:slow")

            async def read_once_it_was_closed() -> bytes:
                assert (await log.until("left"))["user_id"] == "stalled"
                return await asyncio.to_thread(stalled.read_all)

            closing = asyncio.create_task(read_once_it_was_closed())
            for i in range(200):
                await good.push("room:slow", "shout", {"i": i, "x": PAYLOAD})
                assert (await good.until("shout"))["i"] == i
            # the close frame is the last thing that it reads, when it reads before the abort
            assert (await closing)[-4:] == b"\x88\x02" + (1013).to_bytes(2, "big")
            assert await good.ask("room:slow", "echo") == ("ok", {})
        assert "does not take what it is sent" in running.logged()


@pytest.mark.parametrize(
    "server",
    ["frames", "daphne", pytest.param("uvicorn", marks=pytest.mark.big)],
)
async def test_a_client_that_says_goodbye_and_reads_nothing_leaves_no_connection_behind(
    server: str, tmp_path: Path
) -> None:
    with servers.serve(
        server, tmp_path / "log", f"tests.integration.{PLAIN}"
    ) as running:
        async with Client(running.url) as log, Client(running.url) as good:
            await log.join("audit:log")
            await good.join("room:slow")
            before = len(running.connections())
            stalled = Stalled(running.port, "stalled", "room:slow")
            for i in range(60):  # more than the kernel takes, and less than OUTBOUND
                await good.push("room:slow", "shout", {"i": i, "x": PAYLOAD})
                await good.until("shout")
            stalled.socket.sendall(b"\x88\x82\0\0\0\0" + (1000).to_bytes(2, "big"))
            assert (await log.until("left"))["user_id"] == "stalled"
            async with asyncio.timeout(20):
                while len(running.connections()) > before:
                    await asyncio.sleep(0.1)


# ------------------------------------------- behind middleware that wraps send


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
async def test_a_stalled_connection_is_aborted_through_middleware_with_its_own_code(
    server: str, tmp_path: Path
) -> None:
    application = "tests.integration.wrapped_app:all_of_them"
    with servers.serve(server, tmp_path / "log", application) as running:
        async with Client(running.url) as client:
            await client.ws.send("nonsense")
            assert await client.closed() == 1011
        async with Client(running.url) as log, Client(running.url) as good:
            await log.join("audit:log")
            await good.join("room:slow")
            before = len(running.connections())
            Stalled(running.port, "stalled", "room:slow")
            gone = asyncio.create_task(log.until("left"))
            for i in range(200):
                await good.push("room:slow", "shout", {"i": i, "x": PAYLOAD})
                await good.until("shout")
                if gone.done():
                    break
            assert (await gone)["user_id"] == "stalled"
            # it never reads its close frame: all that was kept for it goes with the connection
            async with asyncio.timeout(20):
                while len(running.connections()) > before:
                    await asyncio.sleep(0.1)
        assert "middleware hides" not in running.logged()


async def test_middleware_that_hides_the_server_is_named_in_the_log(
    tmp_path: Path,
) -> None:
    application = "tests.integration.wrapped_app:opaque"
    with servers.serve("daphne", tmp_path / "log", application) as running:
        for _ in range(2):
            async with Client(running.url) as client:
                assert await client.join("room:a") == ("ok", {})
    lines = running.logged().splitlines()
    (line,) = [t for t in lines if t.startswith("middleware hides")]
    assert "hidden" in line and "is not aborted" in line


# ------------------------------------------------------------------ long-poll

#: of one answer, which has 4 MiB at most: just so much that the kernel's buffer, which grows to 4 MiB with
#: what it needs itself, never takes it whole
SHOUTS, SIZE = 4, 1_040_000


async def stalled_poll(session: RawSession, port: int) -> socket.socket:
    """A connection on which the answer of a poll, some megabytes, begins to come and is not read."""
    await session.open(port)
    await session.send(port, ["1", "1", "room:s", "phx_join", {}])
    # a POST is answered before its frames are handled. Whoever has a broadcast in this process, all have it
    async with Client(f"ws://127.0.0.1:{port}", "/slow") as other:
        await other.join("room:s")
        for n in range(SHOUTS):
            shout = ["1", str(n), "room:s", "shout", {"x": "x" * SIZE}]
            await session.send(port, shout)
            await other.until("shout")
    connection = socket.socket()
    # else the kernel takes megabytes here as well
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", port))
    connection.sendall(
        f"GET {session.path}&token={session.token} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    )
    await asyncio.to_thread(connection.recv, 1)
    return connection


def is_cut(connection: socket.socket) -> bool:
    """Whether the connection ends before the answer does."""
    connection.settimeout(20)
    read = 0
    try:
        while part := connection.recv(1 << 20):
            read += len(part)
            if read > SHOUTS * SIZE:
                return False
    except ConnectionResetError:
        pass
    return True


@pytest.fixture(
    scope="module",
    params=[
        ("uvicorn", PLAIN),
        ("daphne", PLAIN),
        ("daphne", "wrapped_app:all_of_them"),
    ],
    ids=["uvicorn", "daphne", "wrapped"],
)
def polled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("polled") / "log"
    name, application = request.param
    with servers.serve(name, log, f"tests.integration.{application}") as server:
        yield server


async def test_an_answer_dies_with_its_session(polled: servers.Server) -> None:
    session = RawSession("/slow")
    connection = await stalled_poll(session, polled.port)
    bad = await session.request(polled.port, "POST", body=b"[nonsense")
    assert (await bad.answer())["status"] == 408  # the session has ended
    assert await asyncio.to_thread(is_cut, connection)


async def test_an_answer_that_is_sent_again_is_not_sent_to_its_end(
    polled: servers.Server,
) -> None:
    session = RawSession("/slow")
    connection = await stalled_poll(session, polled.port)
    seen = [m[3] for m in messages(await session.poll(polled.port))]
    assert seen == ["phx_reply"] + ["shout"] * SHOUTS
    assert await asyncio.to_thread(is_cut, connection)


async def test_an_answer_must_be_taken_in_time_and_its_session_lives_on(
    polled: servers.Server,
) -> None:
    session = RawSession("/hasty")
    connection = await stalled_poll(session, polled.port)
    async with asyncio.timeout(20):
        while "did not take it" not in polled.logged():
            await asyncio.sleep(0.05)
    assert len(messages(await session.poll(polled.port))) == SHOUTS + 1
    assert await asyncio.to_thread(is_cut, connection)
