"""What is sent and read between two processes, and how much of it may wait."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from phx_protocol.bus import connections
from phx_protocol.bus.connections import FULL, LARGEST
from phx_protocol.exceptions import EncodeError
from tests.bus.here import Here, bytes_of, connected, here, send, stranger
from tests.bus.peers import peer
from tests.support.ws_client import TIMEOUT

__all__ = ["here"]


async def test_publishers_wait_for_a_process_that_does_not_read(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        one.process.send_signal(19)  # SIGSTOP
        sent = None
        for n in range(100):
            sent = here.bus.send({"n": n, "text": "x" * FULL})
            if sent is not None:
                break
        assert sent is not None and n < 5 and here.bus.is_full
        after = here.bus.send({"n": "after"})
        assert after is not None
        await asyncio.sleep(0)
        assert not sent.done()
        one.process.send_signal(18)  # SIGCONT
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(sent, after)
        assert not here.bus.is_full
        heard = [(await one.hears())["n"] for _ in range(n + 2)]
        assert heard == [*range(n + 1), "after"]


async def test_a_process_that_never_reads_is_left_out(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT", 0.01)
    monkeypatch.setattr(connections, "WAITING", 2 * FULL)
    async with peer() as one:
        await connected(here, 1)
        one.process.send_signal(19)
        async with asyncio.timeout(TIMEOUT):
            while here.bus._peers:
                await send(here, {"text": "x" * FULL})
                await asyncio.sleep(0)
        assert "does not read, it is left out" in caplog.text
        one.process.send_signal(18)
        # the next look finds that it lives
        await here.bus.tick()
        await send(here, {"n": "again"})
        while await one.hears() != {"n": "again"}:
            pass


async def test_nobody_waits_for_a_command_that_does_not_read(here: Here) -> None:
    async with peer("visiting") as pager, peer() as one:
        await connected(here, 2)
        pager.process.send_signal(19)
        for n in range(5):
            here.bus.send({"n": n, "text": "x" * FULL})
        assert [(await one.hears())["n"] for _ in range(5)] == list(range(5))
        async with asyncio.timeout(TIMEOUT):
            await send(here, {"n": "after"})
        assert not here.bus.is_full and pager.process.returncode is None
        pager.process.send_signal(18)
        assert [(await pager.hears())["n"] for _ in range(6)] == [*range(5), "after"]


async def test_one_that_does_not_read_holds_up_nobody_else(here: Here) -> None:
    async with peer("visiting") as stopped, peer() as one:
        await connected(here, 2)
        stopped.process.send_signal(19)
        for n in range(10):  # more than the machine takes for it, less than is too much
            here.bus.send({"n": n, "text": "x" * 90_000})
        assert [(await one.hears())["n"] for _ in range(10)] == list(range(10))
        stopped.process.send_signal(18)
        assert [(await stopped.hears())["n"] for _ in range(10)] == list(range(10))


async def test_a_shell_waits_for_a_process_that_takes_no_connection_now(
    runtime: Path,
) -> None:
    shells = [Here() for _ in range(20)]
    with socket.socket(socket.AF_UNIX) as listener:
        async with peer() as one:
            # in place of its socket one with a short queue, which is full
            (path,) = runtime.glob("*.sock")
            path.unlink()
            listener.bind(str(path))
            listener.listen(1)
            sending = [asyncio.create_task(send(s, {"n": 1})) for s in shells]
            await asyncio.sleep(0.1)
            heard = []
            listener.settimeout(TIMEOUT)
            for _ in shells:
                taken, _ = await asyncio.to_thread(listener.accept)
                heard.append(await asyncio.to_thread(taken.recv, 100))
                taken.close()
            assert heard == [bytes_of({"n": 1})] * 20
            await asyncio.gather(*sending, return_exceptions=True)
            await one.kill()
    for shell in shells:
        await shell.bus.close()


async def test_what_is_too_large_is_not_sent(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        with pytest.raises(EncodeError, match="more than the local bus carries"):
            await send(here, {"text": "x" * LARGEST})
        await send(here, {"n": "after"})
        assert await one.hears() == {"n": "after"}


async def test_who_sends_faster_than_it_is_handled_is_not_read(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        here.is_behind = True
        for n in range(30):
            await one.send({"n": n, "text": "x" * 100_000})
        await asyncio.sleep(0.2)
        assert here.heard.qsize() < 30
        here.is_behind = False
        assert [(await here.hears())["n"] for _ in range(30)] == list(range(30))


@pytest.mark.parametrize(
    "data, why",
    [
        (struct.pack("!I", LARGEST + 1), f"{LARGEST + 1} bytes are more than"),
        (struct.pack("!I", 1) + b"\xc1", "malformed"),
        (bytes_of([1, 2]), "a message is a map"),
        (bytes_of("text"), "a message is a map"),
        (struct.pack("!I", 3000) + b"\x91" * 3000, ""),  # a list in a list in a list
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


async def test_a_message_that_is_refused_costs_no_other_one(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    with stranger(here) as own:
        own.sendall(bytes_of({"n": "refused"}) + bytes_of({"n": 2}))
        assert await here.hears() == {"n": 2}
    assert "was ignored: ValueError: this one is bad" in caplog.text


async def test_a_message_may_come_in_any_pieces(here: Here) -> None:
    data = b"".join(bytes_of({"n": n, "text": "x" * n}) for n in range(20))
    with stranger(here) as own:
        for at in range(len(data)):
            own.sendall(data[at : at + 1])
            if at % 100 == 0:
                await asyncio.sleep(0.001)
        assert [(await here.hears())["n"] for _ in range(20)] == list(range(20))


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.big)])
async def test_fuzzed_messages_harm_nobody(here: Here, count: int) -> None:
    source, valid = random.Random(0), bytes_of({"type": "phx.broadcast", "v": 1})
    async with peer() as one:
        await connected(here, 1)
        for _ in range(count):
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
