"""Processes that reach each other over Unix sockets."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from phx_protocol.bus import bus as module
from phx_protocol.bus import connections
from phx_protocol.bus.connections import FULL
from phx_protocol.exceptions import BroadcastError
from tests.bus.here import Here, connected, here, send
from tests.bus.peers import peer
from tests.support.ws_client import TIMEOUT

__all__ = ["here"]


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


async def test_a_newcomer_is_welcomed_before_it_goes_on(here: Here) -> None:
    """What is sent after ``open`` arrives, though the sender was busy when the newcomer came."""
    async with peer() as one:
        await connected(here, 1)
        late = Here()
        await late.bus.open(serves=True)
        await one.send({"n": 1})
        assert await late.hears() == {"n": 1}
        await late.bus.close()


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
