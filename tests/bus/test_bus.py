"""Processes that reach each other over Unix sockets."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
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
from phx_protocol.bus import connections
from phx_protocol.bus.bus import Bus
from phx_protocol.bus.connections import FULL, LARGEST
from phx_protocol.exceptions import BroadcastError, EncodeError
from tests.bus.peers import peer
from tests.support.ws_client import TIMEOUT


class Here:
    """The bus of this process."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.is_behind = False
        self.bus = Bus(self.take, carries=True, is_behind=lambda: self.is_behind)

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


@pytest.mark.parametrize("count, size", [(2000, 10), (300, 20_000)])
async def test_a_shell_loses_nothing_in_a_burst(count: int, size: int) -> None:
    """The other process must not be asked to take a connection for each message."""
    shell, text = Here(), "x" * size
    async with peer() as one:

        async def all_sent() -> None:
            for n in range(count):
                await send(shell, {"n": n, "text": text})

        sending = asyncio.create_task(all_sent())
        assert [(await one.hears())["n"] for _ in range(count)] == list(range(count))
        await sending
    await shell.bus.close()


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


async def test_a_shell_is_told_what_a_process_does_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT", 0.1)
    shell = Here()
    async with peer() as one:
        one.process.send_signal(19)
        with pytest.raises(BroadcastError, match="does not take it"):
            for _ in range(20):
                await send(shell, {"text": "x" * FULL})
        await shell.bus.close()
        one.process.send_signal(18)


async def test_what_is_too_large_is_not_sent(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        with pytest.raises(EncodeError, match="more than the local bus carries"):
            await send(here, {"text": "x" * LARGEST})
        await send(here, {"n": "after"})
        assert await one.hears() == {"n": "after"}


# ------------------------------------------------------------------- the tick


async def test_a_connection_that_was_lost_is_made_again(here: Here) -> None:
    async with peer() as one:
        await connected(here, 1)
        (lost,) = here.bus._peers.values()
        lost._transport.abort()
        await connected(here, 0)
        await here.bus.tick()
        await send(here, {"n": 1})
        assert await one.hears() == {"n": 1}


async def test_the_connection_to_a_dead_process_ends_though_a_child_has_it(
    here: Here,
) -> None:
    async with peer("forks") as one:
        await connected(here, 1)
        child = await one.hears()
        await one.kill()
        try:
            for _ in range(2):
                await here.bus.tick()
            assert here.bus._peers == {}
        finally:
            os.kill(child["child"], 9)


@pytest.mark.parametrize("vanishes", ["*.serving", "*.sock", "*"])
async def test_a_place_that_vanishes_is_taken_again(
    here: Here, runtime: Path, vanishes: str
) -> None:
    async with peer() as one:
        await connected(here, 1)
        kept = {path for path in runtime.iterdir()}
        mine = {
            path for path in kept if str(path).startswith(str(here.bus.address)[:-5])
        }
        for path in mine & set(runtime.glob(vanishes)):
            path.unlink()
        await here.bus.tick()
        assert str(here.bus.address) not in map(str, kept)
        await one.send({"from": "one"})
        assert await here.hears() == {"from": "one"}
        await send(here, {"n": 1})
        assert await one.hears() == {"n": 1}
        async with peer() as other:
            await other.send({"from": "other"})
            assert await here.hears() == {"from": "other"}


async def test_a_folder_that_vanishes_is_made_again(here: Here, runtime: Path) -> None:
    shutil.rmtree(runtime)
    await here.bus.tick()
    async with peer() as one:
        await one.send({"from": "one"})
        assert await here.hears() == {"from": "one"}


async def test_a_place_that_could_not_be_taken_is_taken_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = Here()
    with monkeypatch.context() as patch:
        patch.setattr("phx_protocol.bus.folder.folders", lambda: [tmp_path / "a/b"])
        await late.bus.open(serves=True)
        with pytest.raises(OSError):
            await late.bus.tick()
    await late.bus.tick()
    async with peer() as one:
        await one.send({"from": "one"})
        assert await late.hears() == {"from": "one"}
    await late.bus.close()


async def test_too_many_open_files_are_over_some_time(here: Here) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, hard))
    files = []
    try:
        with pytest.raises(OSError):
            while True:
                files.append(open(os.devnull))
        with pytest.raises(OSError):
            await here.bus.tick()
        with pytest.raises(BroadcastError):
            await send(here, {"n": 1}, "/nowhere.sock")
        await send(here, {"n": "to nobody"})
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await here.bus.tick()
    async with peer() as one:
        await one.send({"from": "one"})
        assert await here.hears() == {"from": "one"}


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


async def test_a_newcomer_is_welcomed_before_it_goes_on(here: Here) -> None:
    """What is sent after ``open`` arrives, though the sender was busy when the newcomer came."""
    async with peer() as one:
        await connected(here, 1)
        late = Here()
        await late.bus.open(serves=True)
        await one.send({"n": 1})
        assert await late.hears() == {"n": 1}
        await late.bus.close()


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
