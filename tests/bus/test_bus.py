"""Processes that reach each other over Unix sockets."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from phx_protocol.bus import bus as module
from phx_protocol.bus.bus import FULL, LARGEST, Bus
from tests.bus.peers import peer
from tests.support.ws_client import TIMEOUT


class Here:
    """The bus of this process."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.bus = Bus(self.take, carries=True)

    def take(self, message: Any) -> None:
        if message.get("n") == "refused":
            raise ValueError("this one is bad")
        self.heard.put_nowait(message)

    async def hears(self) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await self.heard.get()


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    one = Here()
    await one.bus.open(serves=True)
    yield one
    await one.bus.close()


async def send(here: Here, message: Any, address: str | None = None) -> None:
    sent = here.bus.send(message, address)
    if sent is not None:
        await sent


async def connected(here: Here, count: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        while len(here.bus._peers) != count:
            await asyncio.sleep(0.01)


async def test_a_message_reaches_all_others_in_their_order(here: Here) -> None:
    async with peer() as one, peer("visiting") as other:
        await connected(here, 2)
        for n in range(100):
            await send(here, {"n": n, "text": "\u00e9" * n})
        for process in (one, other):
            heard = [await process.hears() for _ in range(100)]
            assert heard == [{"n": n, "text": "\u00e9" * n} for n in range(100)]
        await one.send({"from": "one"})
        assert await here.hears() == await other.hears() == {"from": "one"}


async def test_a_message_with_an_address_reaches_only_that_process(here: Here) -> None:
    async with peer() as one, peer() as other:
        await connected(here, 2)
        addresses = await here.bus.neighbours()
        for n, address in enumerate(addresses):
            await send(here, {"n": n}, address)
        heard = [await one.hears(), await other.hears()]
        assert sorted(message["n"] for message in heard) == [0, 1]
        await send(here, {"n": "to nobody"}, "/nowhere")
        await send(here, {"n": "last"})
        assert await one.hears() == {"n": "last"}


async def test_who_does_not_listen_reaches_who_is_there_now() -> None:
    """As a shell does: it hears of no process that begins or ends."""
    shell = Here()
    async with peer() as one:
        await send(shell, {"n": 1})
        assert await one.hears() == {"n": 1}
        async with peer() as other:
            await send(shell, {"n": 2})
            assert await one.hears() == await other.hears() == {"n": 2}
        await send(shell, {"n": 3})
        assert await one.hears() == {"n": 3}
    await send(shell, {"n": "nobody hears it"})
    async with asyncio.timeout(TIMEOUT):
        while shell.bus._peers:
            await asyncio.sleep(0)
    await shell.bus.close()


async def test_a_process_that_is_killed_is_forgotten_and_the_next_is_found(
    here: Here,
) -> None:
    async with peer() as one:
        await connected(here, 1)
        await one.kill()
        await connected(here, 0)
    await send(here, {"n": "lost"})
    async with peer() as other:
        await connected(here, 1)
        await send(here, {"n": 1})
        assert await other.hears() == {"n": 1}


async def test_publishers_wait_for_a_process_that_does_not_read(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        one.process.send_signal(19)  # SIGSTOP
        sent = None
        for n in range(100):
            sent = here.bus.send({"n": n, "text": "x" * FULL})
            if sent is not None:
                break
        assert sent is not None and n < 5
        after = here.bus.send({"n": "after"})
        assert after is not None
        await asyncio.sleep(0)
        assert not sent.done()
        one.process.send_signal(18)  # SIGCONT
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(sent, after)
        heard = [(await one.hears())["n"] for _ in range(n + 2)]
        assert heard == [*range(n + 1), "after"]


async def test_a_process_that_never_reads_is_left_out(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.01)
    monkeypatch.setattr(module, "WAITING", 2 * FULL)
    async with peer() as one:
        await connected(here, 1)
        one.process.send_signal(19)
        async with asyncio.timeout(TIMEOUT):
            while here.bus._peers:
                await send(here, {"text": "x" * FULL})
                await asyncio.sleep(0)
        assert "does not read, it is left out" in caplog.text
        one.process.send_signal(18)


def bytes_of(message: Any) -> bytes:
    data = msgspec.msgpack.encode(message)
    return struct.pack("!I", len(data)) + data


def stranger(here: Here) -> socket.socket:
    assert here.bus.address is not None
    own = socket.socket(socket.AF_UNIX)
    own.connect(here.bus.address)
    return own


@pytest.mark.parametrize(
    "data, why",
    [
        (struct.pack("!I", LARGEST + 1), f"{LARGEST + 1} bytes are more than"),
        (struct.pack("!I", 1) + b"\xc1", "malformed"),
        (bytes_of([1, 2]), "a message is a map"),
        (bytes_of("text"), "a message is a map"),
        (struct.pack("!I", 3000) + b"\x91" * 3000, ""),  # a list in a list in a list
        (bytes_of({"n": "refused"}), "ValueError: this one is bad"),
    ],
)
async def test_what_is_no_message_ends_its_connection_and_is_logged(
    here: Here, data: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stranger(here) as own:
        own.sendall(bytes_of({"n": 1}) + data + bytes_of({"n": 2}))
        assert await here.hears() == {"n": 1}
        own.settimeout(TIMEOUT)
        try:
            assert await asyncio.to_thread(own.recv, 1) == b""
        except ConnectionResetError:
            pass
    assert "the local bus drops a connection" in caplog.text and why in caplog.text
    assert here.heard.empty()


async def test_a_message_may_come_in_any_pieces(here: Here) -> None:
    data = b"".join(bytes_of({"n": n, "text": "x" * n}) for n in range(20))
    with stranger(here) as own:
        for at in range(len(data)):
            own.sendall(data[at : at + 1])
            if at % 100 == 0:
                await asyncio.sleep(0.001)
        assert [(await here.hears())["n"] for _ in range(20)] == list(range(20))


async def test_fuzzed_messages_harm_nobody(here: Here) -> None:
    source, valid = random.Random(0), bytes_of({"type": "phx.broadcast", "v": 1})
    async with peer() as one:
        await connected(here, 1)
        for _ in range(300):
            noise = bytearray(valid)
            for _ in range(source.randrange(1, 4)):
                noise[source.randrange(4, len(noise))] = source.randrange(256)
            with stranger(here) as own:
                own.sendall(bytes(noise))
            await asyncio.sleep(0)
        await one.send({"n": "at last"})
        while await here.hears() != {"n": "at last"}:
            pass
        async with asyncio.timeout(TIMEOUT):
            while len(here.bus._heard) != 1:
                await asyncio.sleep(0.01)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_refused(
    here: Here, runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.settimeout(9); print(s.recv(1))"
    )

    def tries() -> str:
        command = [sys.executable, "-c", code, str(here.bus.address)]
        tried = subprocess.run(command, capture_output=True, text=True)
        return tried.stdout + tried.stderr

    assert "PermissionError" in await asyncio.to_thread(tries)
    # and if the folder did not keep them out
    for path in (runtime.parent, runtime, Path(str(here.bus.address))):
        path.chmod(0o777)
    said = await asyncio.to_thread(tries)
    assert "b''" in said or "reset" in said, said
    assert "another user has connected to the local bus" in caplog.text
    runtime.chmod(0o700)


async def test_without_a_folder_it_does_nothing_but_say_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("phx_protocol.bus.folder.folders", lambda: [tmp_path / "a/b"])
    alone = Here()
    await alone.bus.open(serves=True)
    assert alone.bus.address is None
    assert "other processes do not reach this one" in caplog.text
    await send(alone, {"n": 1})
    await alone.bus.close()


async def test_it_may_open_again(here: Here) -> None:
    first = here.bus.address
    await here.bus.close()
    assert here.bus.address is None
    await here.bus.open(serves=True)
    assert here.bus.address not in (None, first)
    async with peer() as one:
        await one.send({"n": 1})
        assert await here.hears() == {"n": 1}


def test_it_is_never_on_in_a_test(settings: Any) -> None:
    settings.PHX_PROTOCOL = {"LOCAL_BUS": True}
    assert not module.is_on()


@pytest.mark.parametrize(
    "debug, chosen, on",
    [
        (True, None, True),
        (False, None, False),
        (False, True, True),
        (True, False, False),
    ],
)
def test_it_is_on_with_debug_unless_that_is_chosen(
    settings: Any, monkeypatch: pytest.MonkeyPatch, debug: bool, chosen: Any, on: bool
) -> None:
    monkeypatch.setattr(module, "is_tested", lambda: False)
    settings.DEBUG, settings.PHX_PROTOCOL = debug, {"LOCAL_BUS": chosen}
    assert module.is_on() is on
